//! The house rules that a program can check: what may depend on what, and what may stand in the tree.
//!
//! The rules themselves are the tests of this package, one file per topic. This library gives them the two
//! things they read: the workspace as `cargo metadata` sees it ([`Workspace`]) and the files of the
//! checkout ([`Tree`]). Nothing here writes.
#![forbid(unsafe_code)]

mod tree;
mod workspace;

pub use tree::{Markdown, Tree};
pub use workspace::{Package, Target, Workspace};

/// Fails with every offence in one list, so that one run shows all of them.
#[track_caller]
pub fn assert_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}\n", offences.join("\n  "));
}
