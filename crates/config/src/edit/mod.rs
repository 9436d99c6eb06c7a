//! Changes to a configuration text that leave everything else as the user wrote it.
//!
//! The text is parsed for positions, the change is spliced in, and the result is parsed again: it is handed
//! out only when its meaning is the old meaning plus the wanted change. Layouts that cannot be edited line by
//! line end in [`EditError::Unsafe`], never in a damaged file. Comments, order, indentation, quoting, line
//! endings and flow style stay; a new section goes to the end.
//!
//! The text has to be YAML but not a valid configuration, so that a wrong value can be replaced.

mod document;
mod fragment;

use peerup_types::{DnsLabel, PeerId};

use crate::{
    address::PeerAddr,
    error::{ConfigError, Position, Shape},
};
use document::Document;
use fragment::Leaf;

/// The outcome of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edited {
    Changed(String),
    /// The text says so already.
    Unchanged,
}

#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    Text(ConfigError),
    #[error("{at}: `{key}`: expected {expected}, found {found}")]
    WrongShape { key: String, at: Position, expected: Shape, found: Shape },
    #[error("`{key}` is written in a way that cannot be changed without touching something else")]
    Unsafe { key: String },
}

impl EditError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Text(error) => error.hint(),
            Self::WrongShape { .. } | Self::Unsafe { .. } => Some("change the file in an editor".to_owned()),
        }
    }
}

const RELAYS: [&str; 2] = ["relay", "addresses"];

/// Appends to `relay.addresses`.
pub fn add_relay(text: &str, relay: &PeerAddr) -> Result<Edited, EditError> {
    let document = Document::parse(text)?;
    match relay_index(&document, relay) {
        Some(_) => Ok(Edited::Unchanged),
        None => document.put(&RELAYS, Leaf::Item(&relay.to_string())),
    }
}

/// Removes every spelling of `relay` from `relay.addresses`.
pub fn remove_relay(text: &str, relay: &PeerAddr) -> Result<Edited, EditError> {
    let mut outcome = Edited::Unchanged;
    let mut current = text.to_owned();
    loop {
        let document = Document::parse(&current)?;
        let Some(index) = relay_index(&document, relay) else { return Ok(outcome) };
        current = document.remove_item(&RELAYS, index)?;
        outcome = Edited::Changed(current.clone());
    }
}

fn relay_index(document: &Document<'_>, relay: &PeerAddr) -> Option<usize> {
    document
        .items(&RELAYS)
        .iter()
        .position(|item| item.is_some_and(|text| text.parse().ok().as_ref() == Some(relay)))
}

/// Makes `name` stand for `peer` under `names`, whatever it stood for before; see [`crate::unique_name`].
pub fn set_name(text: &str, name: &DnsLabel, peer: PeerId) -> Result<Edited, EditError> {
    set_scalar(text, &["names", name.as_str()], &peer.to_string())
}

/// Gives `path` the value `value`; sections on the way are created.
pub fn set_scalar(text: &str, path: &[&str], value: &str) -> Result<Edited, EditError> {
    Document::parse(text)?.put(path, Leaf::Scalar(value))
}

/// Appends `item` to the list at `path` unless it stands there; list and sections on the way are created.
pub fn add_item(text: &str, path: &[&str], item: &str) -> Result<Edited, EditError> {
    let document = Document::parse(text)?;
    if document.items(path).contains(&Some(item)) {
        return Ok(Edited::Unchanged);
    }
    document.put(path, Leaf::Item(item))
}
