//! The files of the checkout.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Every text file a commit could contain, with paths relative to the root of the repository.
pub struct Tree {
    files: Vec<(String, String)>,
}

/// One Markdown document, read just far enough to check its structure.
pub struct Markdown<'a> {
    pub path: &'a str,
    text: &'a str,
}

impl Tree {
    /// Reads the checkout this package was built in. Build output, npm packages, git's own and binary files are left out.
    pub fn read() -> Self {
        let mut files = Vec::new();
        collect(Self::root(), &mut files);
        files.sort();
        Self { files }
    }

    pub fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with(".rs"))
    }

    pub fn markdown(&self) -> impl Iterator<Item = Markdown<'_>> {
        self.files().filter(|(path, _)| path.ends_with(".md")).map(|(path, text)| Markdown { path, text })
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files().find_map(|(found, text)| (found == path).then_some(text))
    }

    pub fn document(&self, path: &str) -> Option<Markdown<'_>> {
        self.markdown().find(|document| document.path == path)
    }

    pub fn exists(&self, path: &str) -> bool {
        Self::root().join(path).exists()
    }
}

impl<'a> Markdown<'a> {
    /// Lines outside fenced code blocks.
    pub fn prose(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut fenced = false;
        self.text.lines().filter(move |line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
    }

    /// Headings of one level, without the marks.
    pub fn headings(&self, level: usize) -> impl Iterator<Item = &'a str> + use<'a> {
        let mark = format!("{} ", "#".repeat(level));
        self.prose().filter_map(move |line| line.strip_prefix(&mark)).map(str::trim)
    }

    /// Targets of inline links that point into this repository: `(path relative to the root, anchor)`.
    pub fn links(&self) -> Vec<(String, Option<&'a str>)> {
        self.prose()
            .flat_map(link_targets)
            .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
            .map(|target| self.resolve(target))
            .collect()
    }

    /// Anchors that GitHub gives to the headings of this document.
    pub fn anchors(&self) -> Vec<String> {
        (1..=6).flat_map(|level| self.headings(level).map(anchor).collect::<Vec<_>>()).collect()
    }

    fn resolve(&self, target: &'a str) -> (String, Option<&'a str>) {
        let (path, anchor) = match target.split_once('#') {
            Some((path, anchor)) => (path, Some(anchor)),
            None => (target, None),
        };
        if path.is_empty() {
            return (self.path.to_owned(), anchor);
        }
        let folder = Path::new(self.path).parent().unwrap_or(Path::new(""));
        (normalise(&folder.join(path)), anchor)
    }
}

fn collect(folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("the checkout is readable").flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if is_left_out(&path) {
            continue;
        }
        if kind.is_dir() {
            collect(&path, files);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            files.push((relative(&path), text));
        }
    }
}

/// `.git` is a file where the checkout is a linked worktree.
fn is_left_out(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    [".git", "target", "node_modules"].contains(&name)
}

fn relative(path: &Path) -> String {
    path.strip_prefix(Tree::root()).expect("collected below the root").to_string_lossy().into_owned()
}

fn normalise(path: &Path) -> String {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(parts.pop()),
            Component::Normal(part) => parts.push(part),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    parts.to_string_lossy().into_owned()
}

fn link_targets(line: &str) -> Vec<&str> {
    let without_code = line.split('`').step_by(2);
    without_code
        .flat_map(|part| part.match_indices("](").map(|(at, _)| &part[at + 2..]))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split(' ').next().unwrap_or_default())
        .collect()
}

fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code_and_resolved_from_their_document() {
        let text =
            "see [a](../x.md#One-Two) and [b](y.md) and `[c](z.md)`\n```\n[d](w.md)\n```\n[e](https://x.org)";
        let links = Markdown { path: "docs/adr/0001.md", text }.links();
        assert_eq!(links, [("docs/x.md".to_owned(), Some("One-Two")), ("docs/adr/y.md".to_owned(), None)]);
    }

    #[test]
    fn a_link_with_code_as_its_text_is_still_a_link() {
        assert_eq!(link_targets("the [`wire`](wire.md) page"), ["wire.md"]);
    }

    #[test]
    fn headings_become_anchors_as_on_github() {
        assert_eq!(anchor("Exit codes, and `hint:` lines"), "exit-codes-and-hint-lines");
    }
}
