//! What every source file keeps to.

use std::fs;
use std::path::Path;

use peerup_tidy::{Tree, Workspace, assert_none};

/// A file that outgrows this is looked at again: one idea each (the reason is size only as a symptom).
const LONGEST_FILE: usize = 700;

/// Names that examples and tests may use under /home.
const EXAMPLE_USERS: &[&str] = &["a", "alice", "bob", "carol", "user", "you", "elsewhere"];

#[test]
fn no_room_outside_platform_may_use_unsafe_code() {
    let platform = Tree::root().canonicalize().expect("the checkout exists").join("platform");
    let mut offences = Vec::new();
    for (name, package) in Workspace::load().members() {
        if package.manifest.starts_with(&platform) {
            continue;
        }
        for target in package.targets.iter().filter(|t| t.kind == "lib" || t.kind == "bin") {
            let source = fs::read_to_string(&target.root).expect("cargo names existing files");
            if !source.contains("#![forbid(unsafe_code)]") {
                offences.push(format!("{name}: {}", target.root.display()));
            }
        }
    }
    assert_none("roots without #![forbid(unsafe_code)]", &offences);
}

#[test]
fn no_rust_file_is_longer_than_one_idea() {
    let tree = Tree::read();
    let offences: Vec<String> = tree
        .rust()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert_none("files longer than 700 lines", &offences);
}

#[test]
fn nothing_is_marked_as_unfinished() {
    let marks =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("unimple", "mented!(")];
    let tree = Tree::read();
    let offences = offending_lines(&tree, |line| marks.iter().find(|mark| line.contains(**mark)).copied());
    assert_none("unfinished marks", &offences);
}

#[test]
fn no_test_is_switched_off() {
    let mark = concat!("#[ig", "nore");
    let tree = Tree::read();
    let offences = offending_lines(&tree, |line| line.trim().starts_with(mark).then_some(mark));
    assert_none("ignored tests", &offences);
}

#[test]
fn no_path_of_one_machine_stands_in_the_tree() {
    let tree = Tree::read();
    let offences = offending_lines(&tree, machine_path);
    assert_none("paths that exist on one machine only", &offences);
}

#[test]
fn the_check_for_machine_paths_sees_them_and_nothing_else() {
    let work = concat!("/wo", "rk/main/x");
    let root = concat!("/ro", "ot/x");
    let home = concat!("/ho", "me/jane/x");
    for line in [format!("cd {work}"), format!("\"{root}\""), format!("({home})"), format!("x={home}")] {
        assert!(machine_path(&line).is_some(), "{line}");
    }
    let example = concat!("/ho", "me/alice/x");
    let variable = concat!("/ho", "me/$USER/x");
    let address = concat!("https://a.org/wo", "rk/x");
    let relative = concat!("docs/wo", "rk/x");
    for line in [example, variable, address, relative, "/workshop/", "/homestead"] {
        assert_eq!(machine_path(line), None, "{line}");
    }
}

fn offending_lines<'a>(tree: &Tree, check: impl Fn(&str) -> Option<&'a str>) -> Vec<String> {
    tree.files()
        .filter(|(path, _)| Path::new(path).extension().is_none_or(|extension| extension != "lock"))
        .flat_map(|(path, text)| text.lines().enumerate().map(move |(at, line)| (path, at + 1, line)))
        .filter_map(|(path, number, line)| check(line).map(|found| format!("{path}:{number}: {found}")))
        .collect()
}

fn machine_path(line: &str) -> Option<&'static str> {
    let shared = concat!("../sha", "red");
    let (work, root, home) = (concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"));
    if line.contains(shared) {
        return Some(shared);
    }
    if let Some(found) = [work, root].into_iter().find(|prefix| absolute(line, prefix).next().is_some()) {
        return Some(found);
    }
    absolute(line, home).any(|rest| !is_example_user(rest)).then_some(home)
}

/// What follows each place where `prefix` begins an absolute path, not a part of a longer one.
fn absolute<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(prefix)
        .filter(|(at, _)| {
            let before = line[..*at].chars().next_back();
            before
                .is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '/' | '.' | '_' | '-' | '}' | ')' | '$'))
        })
        .map(|(at, found)| &line[at + found.len()..])
}

fn is_example_user(rest: &str) -> bool {
    let name =
        rest.split(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_')).next().unwrap_or_default();
    name.is_empty() || EXAMPLE_USERS.contains(&name)
}
