//! What is generated from the command tree: completions and manual pages.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{collections::BTreeSet, fs};

use peerup_cli_tests::{code, run, stdout};
use tempfile::TempDir;

#[test]
fn each_shell_gets_completions_that_know_the_commands() {
    let dir = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(dir.path(), &["completions", shell]);
        assert_eq!(code(&output), 0, "{output:?}");
        let script = stdout(&output);
        for word in ["bugreport", "until-direct", "deauthorize"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(code(&run(dir.path(), &["completions", "tcsh"])), 2);
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), &["man", "pages"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let entries = fs::read_dir(dir.path().join("pages")).unwrap();
    let pages: BTreeSet<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for page in ["peerup.1", "peerup-status.1", "peerup-auth-add.1", "peerup-relay-serve.1"] {
        assert!(pages.contains(page), "{page}: {pages:?}");
    }
    assert!(!pages.contains("peerup-man.1"));
    let text = fs::read_to_string(dir.path().join("pages/peerup-ping.1")).unwrap();
    assert!(text.contains(".TH") && text.contains("until\\-direct"), "{text}");
}
