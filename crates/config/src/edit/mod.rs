//! Changes to a configuration text that leave everything else as the user wrote it.
//!
//! The text is parsed for positions, the change is spliced in, and the result is parsed again: it is handed
//! out only when its meaning is the old meaning plus the wanted change. Layouts that cannot be edited line by
//! line end in [`EditError::Unsafe`], never in a damaged file. Order, indentation, quoting, line endings and
//! flow style stay; a new section goes to the end. Every comment stays, with one exception: what stands behind
//! a value on its line goes when that line is removed.
//!
//! The text has to be YAML but not a valid configuration, so that a wrong value can be replaced.
//!
//! A path is a list of keys; in a list, the number of an item: `["relay", "addresses", "0"]`.

mod change;
mod document;
mod fragment;
mod scan;

use peerup_types::{DnsLabel, PeerId};

use crate::{
    address::PeerAddr,
    error::{ConfigError, Position, Shape},
    tree::{Node, Value as Found},
};
use document::Document;

pub use crate::resolved::Resolved as Value;

/// The outcome of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edited {
    Changed(String),
    /// The text says so already.
    Unchanged,
}

impl Edited {
    /// The text after the edit, which `before` is when nothing had to change. Makes several edits a chain.
    pub fn text_or(self, before: String) -> String {
        match self {
            Self::Changed(text) => text,
            Self::Unchanged => before,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    Text(ConfigError),
    #[error("{at}: `{key}`: expected {expected}, found {found}")]
    WrongShape { key: String, at: Position, expected: Shape, found: Shape },
    #[error("`{key}` has {len} items, and none of number {number}")]
    NoSuchItem { key: String, number: usize, len: usize },
    #[error("`{key}` is written in a way that cannot be changed without touching something else")]
    Unsafe { key: String },
}

impl EditError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Text(error) => error.hint(),
            Self::NoSuchItem { len, .. } => Some(format!("items count from 0; {len} appends one")),
            Self::WrongShape { .. } | Self::Unsafe { .. } => Some("change the file in an editor".to_owned()),
        }
    }
}

/// What stands at `path`, as text: YAML's guesses about types are not made. `None` where there is nothing.
pub fn get(text: &str, path: &[&str]) -> Result<Option<Value>, EditError> {
    let root = Node::parse(text).map_err(EditError::Text)?;
    Ok(change::node_at(&root, path).map(|node| node.plain().into()))
}

/// Gives `path` the value `value`, whatever stood there before. Sections on the way are created; of lists and
/// sections only what differs is touched.
pub fn set(text: &str, path: &[&str], value: &Value) -> Result<Edited, EditError> {
    let mut outcome = Edited::Unchanged;
    let mut current = text.to_owned();
    // Every step adds, removes or replaces something once.
    for _ in 0..=text.len() + weight(value) {
        let document = Document::parse(&current)?;
        let Some(step) = change::towards_at(&document.root, path, value)? else { return Ok(outcome) };
        current = document.apply(&step)?;
        outcome = Edited::Changed(current.clone());
    }
    // A section that names one key twice is never reached.
    Err(EditError::Unsafe { key: path.join(".") })
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Absent | Value::Bool(_) | Value::Integer(_) | Value::Text(_) => 1,
        Value::List(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Section(entries) => 1 + entries.iter().map(|(_, value)| weight(value)).sum::<usize>(),
    }
}

/// Removes the entry or list item at `path`. A section or list that loses its last one stays as `{}` or `[]`.
pub fn remove(text: &str, path: &[&str]) -> Result<Edited, EditError> {
    let document = Document::parse(text)?;
    match change::removal(&document.root, path) {
        Some(step) => document.apply(&step).map(Edited::Changed),
        None => Ok(Edited::Unchanged),
    }
}

/// Puts `item` before the item `number` of the list at `path`, or at its end when it has that many.
pub fn insert_item(text: &str, path: &[&str], number: usize, item: &Value) -> Result<Edited, EditError> {
    let document = Document::parse(text)?;
    let Some(items) = items(&document.root, path)? else {
        return match number {
            0 => set(text, path, &Value::List(vec![item.clone()])),
            _ => Err(EditError::NoSuchItem { key: path.join("."), number, len: 0 }),
        };
    };
    if number > items.len() {
        return Err(EditError::NoSuchItem { key: path.join("."), number, len: items.len() });
    }
    let path = path.iter().map(|&segment| segment.to_owned()).collect();
    let step = change::Step { path, change: change::Change::PutItem(number, item.clone()) };
    document.apply(&step).map(Edited::Changed)
}

/// Appends `item` to the list at `path` unless it stands there; list and sections on the way are created.
pub fn add_item(text: &str, path: &[&str], item: &str) -> Result<Edited, EditError> {
    let root = Node::parse(text).map_err(EditError::Text)?;
    let items = items(&root, path)?.unwrap_or_default();
    match items.iter().any(|node| node.as_text() == Some(item)) {
        true => Ok(Edited::Unchanged),
        false => insert_item(text, path, items.len(), &Value::text(item)),
    }
}

/// Removes every `item` from the list at `path`.
pub fn remove_item(text: &str, path: &[&str], item: &str) -> Result<Edited, EditError> {
    remove_items(text, path, |text| text == item)
}

fn remove_items(text: &str, path: &[&str], goes: impl Fn(&str) -> bool) -> Result<Edited, EditError> {
    let mut outcome = Edited::Unchanged;
    let mut current = text.to_owned();
    loop {
        let root = Node::parse(&current).map_err(EditError::Text)?;
        let found =
            items(&root, path)?.unwrap_or_default().iter().position(|node| node.as_text().is_some_and(&goes));
        let Some(index) = found else { return Ok(outcome) };
        let index = index.to_string();
        let path: Vec<&str> = path.iter().copied().chain([index.as_str()]).collect();
        current = remove(&current, &path)?.text_or(current);
        outcome = Edited::Changed(current.clone());
    }
}

/// Gives `path` one value; a list or section there is refused. Sections on the way are created.
pub fn set_scalar(text: &str, path: &[&str], value: &str) -> Result<Edited, EditError> {
    let root = Node::parse(text).map_err(EditError::Text)?;
    match change::node_at(&root, path) {
        Some(node) if matches!(node.value, Found::List(..) | Found::Map(..)) => {
            Err(wrong_shape(node, path, Shape::Value))
        }
        Some(_) | None => set(text, path, &Value::text(value)),
    }
}

/// The items of the list at `path`; `None` where there is nothing.
fn items<'n>(root: &'n Node, path: &[&str]) -> Result<Option<&'n [Node]>, EditError> {
    let Some(node) = change::node_at(root, path) else { return Ok(None) };
    match &node.value {
        Found::List(_, items) => Ok(Some(items)),
        Found::Null => Ok(None),
        Found::Scalar(_) | Found::Map(..) => Err(wrong_shape(node, path, Shape::List)),
    }
}

fn wrong_shape(node: &Node, path: &[&str], expected: Shape) -> EditError {
    EditError::WrongShape { key: path.join("."), at: node.at, expected, found: node.shape() }
}

/// The path that `vpn.mtu` or `relay.addresses[0]` names; `None` where a part is empty.
pub fn path(key: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = key
        .split('.')
        .flat_map(|part| part.split('[').map(|part| part.strip_suffix(']').unwrap_or(part)))
        .collect();
    (!parts.iter().any(|part| part.is_empty())).then_some(parts)
}

/// What somebody typed as a value: YAML where it is, else the text itself.
pub fn parse_value(text: &str) -> Value {
    match Node::parse(text) {
        Ok(root) if !text.trim().is_empty() => typed(root.plain().into()),
        Ok(_) | Err(_) => Value::text(text),
    }
}

/// Booleans and numbers are written bare; what they mean is decided by the key.
fn typed(value: Value) -> Value {
    match value {
        Value::Text(text) => match (text.as_str(), text.parse::<u64>()) {
            ("true", _) => Value::Bool(true),
            ("false", _) => Value::Bool(false),
            (_, Ok(number)) if number.to_string() == text => Value::Integer(number),
            (_, Ok(_) | Err(_)) => Value::Text(text),
        },
        Value::List(items) => Value::List(items.into_iter().map(typed).collect()),
        Value::Section(entries) => {
            Value::Section(entries.into_iter().map(|(key, value)| (key, typed(value))).collect())
        }
        Value::Absent | Value::Bool(_) | Value::Integer(_) => value,
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Of the text, counted from 1.
    Line(usize),
    Default,
}

/// Every key of `resolved`, dotted, with its value and whether `text` says so.
pub fn origins(text: &str, resolved: &Value) -> Result<Vec<(String, Value, Origin)>, EditError> {
    let root = Node::parse(text).map_err(EditError::Text)?;
    let mut rows = Vec::new();
    collect_origins(Some(&root), resolved, "", &mut rows);
    Ok(rows)
}

fn collect_origins(node: Option<&Node>, value: &Value, path: &str, rows: &mut Vec<(String, Value, Origin)>) {
    let Value::Section(entries) = value else { return };
    for (key, value) in entries {
        let found = node.and_then(|node| node.entries().iter().find(|entry| entry.key == *key));
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Section(inner) if !inner.is_empty() => {
                collect_origins(found.map(|entry| &entry.value), value, &path, rows);
            }
            value => {
                // A key without a value counts as absent.
                let set = found.filter(|entry| !matches!(entry.value.value, Found::Null));
                let origin = set.map_or(Origin::Default, |entry| Origin::Line(entry.key_at.line));
                rows.push((path, value.clone(), origin));
            }
        }
    }
}

/// A value as it would stand on one line.
pub fn one_line(value: &Value) -> String {
    fragment::flow(value)
}

const RELAYS: [&str; 2] = ["relay", "addresses"];

/// Appends to `relay.addresses`.
pub fn add_relay(text: &str, relay: &PeerAddr) -> Result<Edited, EditError> {
    let root = Node::parse(text).map_err(EditError::Text)?;
    let items = items(&root, &RELAYS)?.unwrap_or_default();
    match items.iter().any(|node| node.as_text().is_some_and(|text| is_relay(text, relay))) {
        true => Ok(Edited::Unchanged),
        false => insert_item(text, &RELAYS, items.len(), &Value::text(relay)),
    }
}

/// Removes every spelling of `relay` from `relay.addresses`.
pub fn remove_relay(text: &str, relay: &PeerAddr) -> Result<Edited, EditError> {
    remove_items(text, &RELAYS, |text| is_relay(text, relay))
}

fn is_relay(text: &str, relay: &PeerAddr) -> bool {
    text.parse().ok().as_ref() == Some(relay)
}

/// Makes `name` stand for `peer` under `names`, whatever it stood for before; see [`crate::unique_name`].
pub fn set_name(text: &str, name: &DnsLabel, peer: PeerId) -> Result<Edited, EditError> {
    set_scalar(text, &["names", name.as_str()], &peer.to_string())
}
