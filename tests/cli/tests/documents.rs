//! Every command line in README and guides is one that the binary understands.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use peerup_cli_tests::peerup;

const ID: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";
/// What ends a command line for the shell.
const ENDS: &[&str] = &["#", "|", "&", "&&", ";", ">", ">>"];

#[test]
fn every_command_line_in_the_documents_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut seen = 0;
    for document in documents(&root) {
        let text = fs::read_to_string(&document).unwrap();
        for line in commands(&text) {
            // With --help last, every word before it is still parsed, and nothing is done. What follows `--` is a
            // command of its own.
            let words = arguments(&line);
            let own = words.iter().take_while(|word| *word != "--");
            let output = Command::new(peerup()).args(own).arg("--help").output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{}: `{line}`: {said}", document.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} command lines found");
}

fn documents(root: &Path) -> Vec<PathBuf> {
    let guides = fs::read_dir(root.join("docs/guide")).unwrap().map(|entry| entry.unwrap().path());
    guides.chain([root.join("README.md")]).collect()
}

/// `peerup …` at the start of a line of a code block or after a word such as sudo, and between backticks.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            commands.extend(command(line));
        } else {
            commands.extend(line.split('`').skip(1).step_by(2).filter_map(command));
        }
    }
    commands
}

fn command(code: &str) -> Option<String> {
    let words: Vec<&str> = code.split_whitespace().collect();
    let is_program = |word: &&str| matches!(*word, "peerup" | "ExecStart=/usr/local/bin/peerup");
    let at = words.iter().position(is_program)?;
    let before = words[..at].last().copied().unwrap_or_default();
    // `sudo -u peerup peerup …` names an account first.
    let at = if before == "-u" { at + 1 + words[at + 1..].iter().position(is_program)? } else { at };
    let before = words[..at].last().copied().unwrap_or_default();
    let rest = words[at + 1..].join(" ");
    let starts = ["", "sudo", "&&", "peerup"].contains(&before);
    (starts && rest.starts_with(|c: char| c.is_ascii_lowercase())).then_some(rest)
}

fn arguments(line: &str) -> Vec<String> {
    let quoted = line.split('"').skip(1).step_by(2);
    // What quotes mean to the shell does not matter here: one word stands for what they hold.
    let line = quoted.fold(line.to_owned(), |line, text| line.replace(&format!("\"{text}\""), "quoted"));
    let words = line.split_whitespace().take_while(|word| !ENDS.contains(word));
    words.map(|word| if matches!(word, "12D3KooW…" | "PEER_ID") { ID } else { word }.to_owned()).collect()
}
