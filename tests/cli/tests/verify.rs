//! Two machines compare their short string.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use peerup_cli_tests::{code, command, run, stderr, stdout};
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn both_machines_show_the_same_string_and_a_yes_is_remembered() {
    let (a, b) = pair();
    let shown = |dir: &TempDir, peer: &str| {
        // The original ignores flags behind the peer.
        let output = run(dir.path(), &["verify", peer, "--json", "--config", "config.yaml"]);
        serde_json::from_str::<Value>(&stdout(&output)).unwrap()
    };
    let (here, there) = (shown(&a, "b"), shown(&b, "a"));
    for key in ["emoji", "numeric", "stored"] {
        assert_eq!(here[key], there[key], "{key}");
    }
    assert_eq!(here["verified"], false);
    let keys = fs::read_to_string(a.path().join("authorized_keys")).unwrap();

    let declined = verify(a.path(), "n\n");
    assert_eq!(code(&declined), 1, "{declined:?}");
    assert!(stderr(&declined).contains("nothing was written"));
    assert_eq!(fs::read_to_string(a.path().join("authorized_keys")).unwrap(), keys);

    let accepted = verify(a.path(), "y\n");
    assert_eq!(code(&accepted), 0, "{accepted:?}");
    assert!(stdout(&accepted).contains(here["numeric"].as_str().unwrap()));
    let keys = fs::read_to_string(a.path().join("authorized_keys")).unwrap();
    assert!(keys.contains(&format!("verified={}", here["stored"].as_str().unwrap())), "{keys}");
    assert_eq!(shown(&a, "b")["verified"], true);
    assert!(stdout(&verify(a.path(), "")).contains("verified already"));
    let status = stdout(&run(a.path(), &["status", "--config", "config.yaml"]));
    assert!(status.contains("[VERIFIED]"), "{status}");
}

#[test]
fn who_is_not_authorized_cannot_be_verified() {
    let (a, _b) = pair();
    let stranger = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";
    for peer in ["nobody", stranger] {
        let output = run(a.path(), &["verify", peer, "--config", "config.yaml"]);
        assert_eq!(code(&output), 1, "{output:?}");
        assert!(stderr(&output).contains("peerup auth list"), "{output:?}");
    }
}

fn pair() -> (TempDir, TempDir) {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (a_id, b_id) = (node(a.path()), node(b.path()));
    for (dir, id, name) in [(&a, b_id, "b"), (&b, a_id, "a")] {
        let add = run(dir.path(), &["auth", "add", &id, "--comment", name, "--config", "config.yaml"]);
        assert_eq!(code(&add), 0, "{add:?}");
    }
    (a, b)
}

fn node(dir: &Path) -> String {
    assert_eq!(code(&run(dir, &["init", "--non-interactive", "--dir", "."])), 0);
    stdout(&run(dir, &["whoami", "--config", "config.yaml"])).trim().to_owned()
}

fn verify(dir: &Path, answer: &str) -> Output {
    let mut child = command(dir, &["verify", "b", "--config", "config.yaml"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that has nothing to ask does not read it.
    let _ = child.stdin.take().unwrap().write_all(answer.as_bytes());
    child.wait_with_output().unwrap()
}
