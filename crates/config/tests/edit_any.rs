//! Any edit anywhere in any document: another YAML parser has to read the edited value, and comments stay.

use std::collections::BTreeSet;

use peerup_config::edit::{self, EditError, Edited, Value};
use proptest::prelude::*;
use serde_yaml::Value as Yaml;

/// What a document says.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Null,
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// Draws the layout: which collections are on one line, where comments and blank lines stand.
struct Pen {
    bits: Vec<u8>,
    drawn: usize,
    notes: usize,
    step: usize,
}

impl Pen {
    fn draw(&mut self, sides: u8) -> u8 {
        self.drawn += 1;
        self.bits[self.drawn % self.bits.len()] % sides
    }

    fn note(&mut self) -> String {
        self.notes += 1;
        format!("# {}{}.", ["it's ", "a: b ", "[, ", ""][self.notes % 4], self.notes)
    }

    /// Lines that may stand before an entry or item.
    fn before(&mut self, indent: usize) -> String {
        match self.draw(8) {
            0 => format!("{:indent$}{}\n", "", self.note()),
            1 => format!("{}\n", self.note()),
            2 => "\n".to_owned(),
            _ => String::new(),
        }
    }

    fn behind(&mut self) -> String {
        match self.draw(6) {
            0 => format!("  {}", self.note()),
            _ => String::new(),
        }
    }

    fn scalar(&mut self, text: &str) -> String {
        match self.draw(4) {
            0 => format!("'{}'", text.replace('\'', "''")),
            1 => format!("{text:?}"),
            _ if text.chars().all(|c| c.is_ascii_alphanumeric()) => text.to_owned(),
            _ => format!("{text:?}"),
        }
    }

    /// Between brackets, on one line or several.
    fn flow(&mut self, tree: &Tree, indent: usize) -> String {
        let (open, close, parts): (_, _, Vec<String>) = match tree {
            Tree::Null => return "~".to_owned(),
            Tree::Text(text) => return self.scalar(text),
            Tree::List(items) => ('[', ']', items.iter().map(|item| self.flow(item, indent + 1)).collect()),
            Tree::Map(entries) => {
                let entry = |(key, value): &(String, Tree)| {
                    let value = self.flow(value, indent + 1);
                    format!("{}: {value}", self.scalar(key))
                };
                ('{', '}', entries.iter().map(entry).collect())
            }
        };
        let several = self.draw(4) == 0;
        let mut text = String::from(open);
        for (index, part) in parts.iter().enumerate() {
            if several {
                text.push_str(&format!("{}\n{:indent$} ", self.behind(), ""));
            }
            let comma = if index + 1 < parts.len() || self.draw(3) == 0 { ", " } else { "" };
            text.push_str(&format!("{part}{comma}"));
        }
        if several && self.draw(2) == 0 {
            text.push_str(&format!("{}\n{:indent$}", self.behind(), ""));
        }
        text.push(close);
        text
    }

    /// What follows `key:` or `-`, to the end of its last line.
    fn value(&mut self, tree: &Tree, indent: usize) -> String {
        let small = |tree: &Tree| match tree {
            Tree::Null | Tree::Text(_) => true,
            Tree::List(items) => items.is_empty(),
            Tree::Map(entries) => entries.is_empty(),
        };
        match tree {
            Tree::Null if self.draw(2) == 0 => format!("{}\n", self.behind()),
            Tree::Text(text) if self.draw(6) == 0 && !text.is_empty() && !text.starts_with(' ') => {
                let inner = indent + self.step;
                format!(" |-{}\n{:inner$}{text}\n", self.behind(), "")
            }
            tree if small(tree) || self.draw(3) == 0 => {
                format!(" {}{}\n", self.flow(tree, indent + 1), self.behind())
            }
            Tree::List(_) if self.draw(2) == 0 => format!("{}\n{}", self.behind(), self.block(tree, indent)),
            tree => format!("{}\n{}", self.behind(), self.block(tree, indent + self.step)),
        }
    }

    fn block(&mut self, tree: &Tree, indent: usize) -> String {
        let mut text = String::new();
        match tree {
            Tree::Map(entries) => {
                for (key, value) in entries {
                    text.push_str(&self.before(indent));
                    let key = self.scalar(key);
                    // An item may not stand left of its list's key.
                    text.push_str(&format!("{:indent$}{key}:{}", "", self.value(value, indent)));
                }
            }
            Tree::List(items) => {
                for item in items {
                    text.push_str(&self.before(indent));
                    text.push_str(&format!("{:indent$}-", ""));
                    text.push_str(&self.item(item, indent));
                }
            }
            Tree::Null | Tree::Text(_) => unreachable!("a scalar is no block"),
        }
        text
    }

    fn item(&mut self, tree: &Tree, indent: usize) -> String {
        let inner = indent + 2;
        match tree {
            Tree::Map(entries) if !entries.is_empty() && self.draw(2) == 0 => {
                // The first entry beside the dash.
                let mut text = String::new();
                for (index, (key, value)) in entries.iter().enumerate() {
                    let lead = if index == 0 { " ".to_owned() } else { format!("{:inner$}", "") };
                    if index > 0 {
                        text.push_str(&self.before(inner));
                    }
                    let key = self.scalar(key);
                    text.push_str(&format!("{lead}{key}:{}", self.value(value, inner)));
                }
                text
            }
            Tree::Map(entries) if !entries.is_empty() && self.draw(2) == 0 => {
                format!("{}\n{}", self.behind(), self.block(tree, inner))
            }
            tree => match tree {
                Tree::Text(_) | Tree::Null => {
                    let scalar = self.flow(tree, inner);
                    format!(" {scalar}{}\n", self.behind())
                }
                tree => format!(" {}{}\n", self.flow(tree, inner), self.behind()),
            },
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b7", "x y", "it's", "k: v", "c # d", "[z", "q\"r", "é"])
        .prop_map(str::to_owned)
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["ka", "kb", "kc", "kd", "k e", "k#f"]).prop_map(str::to_owned)
}

fn tree(depth: u32) -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![5 => text().prop_map(Tree::Text), 1 => Just(Tree::Null)];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::List),
            prop::collection::btree_map(key(), inner, 0..4)
                .prop_map(|map| Tree::Map(map.into_iter().collect())),
        ]
    })
}

fn document() -> impl Strategy<Value = (String, Tree)> {
    let root = prop::collection::btree_map(key(), tree(3), 1..5)
        .prop_map(|map| Tree::Map(map.into_iter().collect()));
    let pen = (prop::collection::vec(any::<u8>(), 60), 1usize..=4, any::<bool>(), any::<bool>());
    (root, pen).prop_map(|(root, (bits, step, crlf, last_break))| {
        let mut pen = Pen { bits, drawn: 0, notes: 0, step };
        let mut text = pen.block(&root, 0);
        text.push_str(&pen.before(0));
        let text = if last_break { text } else { text.trim_end_matches('\n').to_owned() };
        (if crlf { text.replace('\n', "\r\n") } else { text }, root)
    })
}

fn yaml(tree: &Tree) -> Yaml {
    match tree {
        Tree::Null => Yaml::Null,
        Tree::Text(text) => Yaml::String(text.clone()),
        Tree::List(items) => items.iter().map(yaml).collect(),
        Tree::Map(entries) => {
            Yaml::Mapping(entries.iter().map(|(key, value)| (key.as_str().into(), yaml(value))).collect())
        }
    }
}

fn value(tree: &Tree) -> Value {
    match tree {
        Tree::Null => Value::Absent,
        Tree::Text(text) => Value::text(text),
        Tree::List(items) => Value::List(items.iter().map(value).collect()),
        Tree::Map(entries) => {
            Value::Section(entries.iter().map(|(key, inner)| (key.clone(), value(inner))).collect())
        }
    }
}

fn paths(tree: &Tree, above: &[String], found: &mut Vec<Vec<String>>) {
    let below = |segment: String| above.iter().cloned().chain([segment]).collect::<Vec<_>>();
    let children: Vec<(String, &Tree)> = match tree {
        Tree::Null | Tree::Text(_) => return,
        Tree::List(items) => {
            items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
        }
        Tree::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value)).collect(),
    };
    for (segment, child) in children {
        let path = below(segment);
        found.push(path.clone());
        paths(child, &path, found);
    }
}

fn at<'y>(root: &'y mut Yaml, path: &[String]) -> &'y mut Yaml {
    path.iter().fold(root, |node, segment| match node {
        Yaml::Sequence(items) => &mut items[segment.parse::<usize>().expect("an index")],
        node => &mut node[segment.as_str()],
    })
}

fn remove(root: &mut Yaml, path: &[String]) {
    let (last, above) = path.split_last().expect("a path");
    match at(root, above) {
        Yaml::Sequence(items) => drop(items.remove(last.parse().expect("an index"))),
        Yaml::Mapping(map) => drop(map.remove(last.as_str())),
        _ => unreachable!("only collections have children"),
    }
}

/// The numbered comments of a generated text: on lines of their own, and behind something.
fn comments(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut found = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        let Some(start) = line.rfind(" # ").map(|at| at + 1).or(line.starts_with("# ").then_some(0)) else {
            continue;
        };
        let comment = line[start..].to_owned();
        if !comment.ends_with('.') {
            continue;
        }
        let fresh = match line[..start].trim().is_empty() {
            true => found.0.insert(comment),
            false => found.1.insert(comment),
        };
        assert!(fresh, "doubled: {line}");
    }
    found
}

fn check(
    before: &str,
    edited: Result<Edited, EditError>,
    expected: &Yaml,
    keeps_all: bool,
) -> Result<(), TestCaseError> {
    let after = match edited {
        Ok(edited) => edited.text_or(before.to_owned()),
        Err(error) => return Err(TestCaseError::fail(format!("{error}\n{before}"))),
    };
    let read: Yaml = serde_yaml::from_str(&after)
        .map_err(|error| TestCaseError::fail(format!("{error}\n--- before\n{before}\n--- after\n{after}")))?;
    let read = if read.is_null() { Yaml::Mapping(Default::default()) } else { read };
    prop_assert_eq!(&read, expected, "\n--- before\n{}\n--- after\n{}", before, after);
    let ((own, behind), (own_after, behind_after)) = (comments(before), comments(&after));
    let all_after: BTreeSet<_> = own_after.union(&behind_after).cloned().collect();
    prop_assert!(own.is_subset(&all_after), "lost {:?}\n--- before\n{}\n--- after\n{}", own, before, after);
    let all: BTreeSet<_> = own.union(&behind).cloned().collect();
    prop_assert!(all_after.is_subset(&all), "new comments\n{}", after);
    if keeps_all {
        prop_assert_eq!(&all, &all_after, "\n--- before\n{}\n--- after\n{}", before, after);
    }
    let crlf = after.matches("\r\n").count();
    prop_assert!(crlf == 0 || crlf == after.matches('\n').count(), "mixed line breaks: {:?}", after);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_generated_documents_say_what_was_drawn((text, root) in document()) {
        let read: Yaml = serde_yaml::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(read, yaml(&root), "{}", text);
        prop_assert_eq!(edit::get(&text, &[]).unwrap(), Some(value(&root)), "{}", text);
    }

    #[test]
    fn a_value_is_set_anywhere((text, root) in document(), wanted in tree(2), pick: prop::sample::Index) {
        let mut found = Vec::new();
        paths(&root, &[], &mut found);
        let path = pick.get(&found);
        let mut expected = yaml(&root);
        let old = at(&mut expected, path);
        // Items and entries that go take the comment behind them along.
        let keeps_all = !matches!((&*old, &wanted), (Yaml::Sequence(_), Tree::List(_)) | (Yaml::Mapping(_), Tree::Map(_)));
        *old = yaml(&wanted);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        check(&text, edit::set(&text, &path, &value(&wanted)), &expected, keeps_all)?;
    }

    #[test]
    fn an_entry_is_put_into_any_section((text, root) in document(), wanted in tree(2), pick: prop::sample::Index) {
        let mut found = vec![vec![]];
        paths(&root, &[], &mut found);
        let mut expected = yaml(&root);
        found.retain(|path| matches!(at(&mut expected, path), Yaml::Mapping(_) | Yaml::Null));
        let path = pick.get(&found);
        let place = at(&mut expected, path);
        if place.is_null() {
            *place = Yaml::Mapping(Default::default());
        }
        place["new"] = Yaml::Mapping([("er".into(), yaml(&wanted))].into_iter().collect());
        let path: Vec<&str> = path.iter().map(String::as_str).chain(["new", "er"]).collect();
        check(&text, edit::set(&text, &path, &value(&wanted)), &expected, true)?;
    }

    #[test]
    fn an_item_is_put_into_any_list((text, root) in document(), wanted in tree(2), pick: prop::sample::Index, number: prop::sample::Index) {
        let mut found = Vec::new();
        paths(&root, &[], &mut found);
        let mut expected = yaml(&root);
        found.retain(|path| at(&mut expected, path).is_sequence());
        if found.is_empty() {
            return Ok(());
        }
        let path = pick.get(&found);
        let items = at(&mut expected, path).as_sequence_mut().expect("a list");
        let number = number.index(items.len() + 1);
        items.insert(number, yaml(&wanted));
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        check(&text, edit::insert_item(&text, &path, number, &value(&wanted)), &expected, true)?;
    }

    #[test]
    fn anything_is_removed((text, root) in document(), pick: prop::sample::Index) {
        let mut found = Vec::new();
        paths(&root, &[], &mut found);
        let path = pick.get(&found);
        let mut expected = yaml(&root);
        remove(&mut expected, path);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        check(&text, edit::remove(&text, &path), &expected, false)?;
    }
}
