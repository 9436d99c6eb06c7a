//! Commands that ask, with the answers on standard input.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use peerup_cli_tests::peerup;

const RELAY_ID: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";

#[test]
fn init_asks_for_name_and_relay_and_shows_the_id_as_a_qr_code() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["init", "--dir", "node"], &format!("nas\n203.0.113.50\n{RELAY_ID}\n"));
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains('█'));
    let config = fs::read_to_string(dir.path().join("node/config.yaml")).unwrap();
    assert!(config.contains("name: nas"), "{config}");
    for transport in ["tcp/7777", "udp/7777/quic-v1"] {
        assert!(config.contains(&format!("/ip4/203.0.113.50/{transport}/p2p/{RELAY_ID}")), "{config}");
    }
}

#[test]
fn empty_answers_make_a_node_without_relay() {
    let dir = tempfile::tempdir().unwrap();
    assert!(run(dir.path(), &["init", "--dir", "node"], "").status.success());
    let config = fs::read_to_string(dir.path().join("node/config.yaml")).unwrap();
    assert!(config.contains("addresses: []"), "{config}");
}

#[test]
fn a_wrong_answer_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for answers in ["Not A Name\n\n", "nas\nrelay.example.org\n", "nas\n203.0.113.50\nnonsense\n"] {
        let output = run(dir.path(), &["init", "--dir", "node"], answers);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!dir.path().join("node").exists(), "{answers:?}");
    }
}

#[test]
fn relay_setup_keeps_replaces_and_restores_as_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let id = |answers: &str| {
        let output = run(dir.path(), &["relay", "setup"], answers);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        // The last question has no line break of its own.
        text.split("Peer ID:").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    let first = id("");
    assert_eq!(id("\n"), first);
    let second = id("2\n");
    assert_ne!(second, first);
    assert_eq!(id("3\n1\n"), first);
    assert_eq!(id("1\n"), first);
}

#[test]
fn join_without_a_code_asks_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["join", "--config", "node.yaml"], "MFRGG\n");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("Code:"));
    assert!(!dir.path().join("node.yaml").exists());
}

fn run(dir: &Path, arguments: &[&str], answers: &str) -> Output {
    let mut command = Command::new(peerup());
    command.args(arguments).current_dir(dir).env_remove("PEERUP_CONFIG").env_remove("PEERUP_INVITE_CODE");
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A command that fails early does not read all of it.
    let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
    child.wait_with_output().unwrap()
}
