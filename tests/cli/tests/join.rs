//! `join` without a daemon, given up before anybody answered.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use peerup_cli_tests::peerup;
use tokio::time::{sleep, timeout};

/// Its relay is an address of RFC 5737, which nobody has.
const CODE: &str = "AEAA-CAQD-AQCQ-MB6L-ABYT-EHTB-EYAC-ICAB-CIQB-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIA-AASA-QAIS-EARC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-E";

#[tokio::test]
async fn a_first_join_that_is_given_up_leaves_no_node_behind() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new/place/node.yaml");
    let output = given_up(&file).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("error: cancelled") && !stderr.contains("daemon"), "{stderr}");
    assert!(!dir.path().join("new").exists());
}

#[tokio::test]
async fn a_join_that_is_given_up_leaves_the_configuration_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.yaml");
    let text = b"version: 1\n";
    let mut options = fs::OpenOptions::new();
    std::io::Write::write_all(
        &mut options.create_new(true).write(true).mode(0o600).open(&file).unwrap(),
        text,
    )
    .unwrap();
    given_up(&file).await;
    assert_eq!(fs::read(&file).unwrap(), text);
}

/// Ctrl-C as soon as there is somebody to notice it.
async fn given_up(file: &Path) -> Output {
    let mut command = Command::new(peerup());
    command.args(["join", "--non-interactive", "--config"]).arg(file).arg(CODE).env_remove("PEERUP_CONFIG");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let under_way = async {
        while !catches_interrupts(child.id()) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), under_way).await.expect("under way in time");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

fn catches_interrupts(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    const SIGINT_BIT: u64 = 1 << 1;
    u64::from_str_radix(caught.trim(), 16).unwrap() & SIGINT_BIT != 0
}
