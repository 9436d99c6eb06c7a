//! Real nodes and a real relay on loopback: what commands do without a daemon.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixListener,
    path::Path,
    process::Stdio,
    sync::mpsc,
    time::Duration,
};

use peerup_cli_tests::{Process, code, command, run, stdout, write};
use serde_json::Value;
use tempfile::TempDir;

/// A daemon that crashed leaves its socket and cookie behind; the original then fails, because it only looks whether
/// the files exist.
#[test]
fn ping_without_a_daemon_prints_the_shape_it_has_with_one_whatever_a_crash_left_behind() {
    let (relay_dir, a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let relay_config = "network: {listen_addresses: [/ip4/127.0.0.1/tcp/0], external_addresses: []}\n";
    write(&relay_dir.path().join("relay-server.yaml"), relay_config);
    let mut relay = Process::start(relay_dir.path(), &["relay", "serve"]);
    let address = relay.next_line();
    let (a_id, b_id) = (node(a.path(), "a", &address), node(b.path(), "b", &address));
    for id in [&a_id, &b_id] {
        assert_eq!(code(&run(relay_dir.path(), &["relay", "authorize", id])), 0);
    }
    assert_eq!(code(&run(a.path(), &["auth", "add", &b_id, "--comment", "b", "--config", "config.yaml"])), 0);
    assert_eq!(code(&run(b.path(), &["auth", "add", &a_id, "--comment", "a", "--config", "config.yaml"])), 0);
    let _daemon = Process::start(b.path(), &["daemon", "--config", "config.yaml"]);
    drop(UnixListener::bind(a.path().join("peerup.sock")).unwrap());
    fs::write(a.path().join(".daemon-cookie"), "0".repeat(64)).unwrap();

    let ping = ["ping", "b", "-c", "2", "-i", "100", "--json", "--config", "config.yaml"];
    let alone = run(a.path(), &ping);
    assert_eq!(code(&alone), 0, "{alone:?}");
    let daemon = Process::start(a.path(), &["daemon", "--config", "config.yaml"]);
    let with_daemon = run(a.path(), &ping);
    assert_eq!(code(&with_daemon), 0, "{with_daemon:?}");
    assert_eq!(shape(&stdout(&alone)), shape(&stdout(&with_daemon)));
    assert_eq!(shape(&stdout(&alone))[0], ["error", "path", "peer_id", "rtt_ms", "seq", "via"]);
    assert_eq!(
        code(&run(a.path(), &["wait", "--peer", "b", "--timeout", "20s", "--config", "config.yaml"])),
        0
    );

    // The first stop may come before the reader is there.
    let events = events_of(a.path());
    let told = (0..3).any(|_| {
        let running = code(&run(b.path(), &["daemon", "status", "--config", "config.yaml"])) == 0;
        let daemon = (!running).then(|| Process::start(b.path(), &["daemon", "--config", "config.yaml"]));
        let wait = run(a.path(), &["wait", "--peer", "b", "--timeout", "30s", "--config", "config.yaml"]);
        assert_eq!(code(&wait), 0, "{wait:?}");
        assert_eq!(code(&run(b.path(), &["daemon", "stop", "--config", "config.yaml"])), 0);
        drop(daemon);
        let patience = Duration::from_secs(10);
        std::iter::from_fn(|| events.recv_timeout(patience).ok()).any(|line| event(&line) == "peer-down")
    });
    assert!(told, "nobody said that b is gone");
    drop(daemon);
}

/// The lines of `peerup events`, which ends with the daemon.
fn events_of(dir: &Path) -> mpsc::Receiver<String> {
    let mut child = command(dir, &["events", "--json", "--config", "config.yaml"]);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let (sender, events) = mpsc::channel();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::spawn(move || {
        lines.map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        child.wait().unwrap();
    });
    events
}

fn event(line: &str) -> String {
    let object: Value = serde_json::from_str(line).unwrap();
    object["event"].as_str().unwrap().to_owned()
}

fn node(dir: &Path, name: &str, relay: &str) -> String {
    let init = run(dir, &["init", "--non-interactive", "--dir", ".", "--name", name, "--relay", relay]);
    assert_eq!(code(&init), 0, "{init:?}");
    let file = dir.join("config.yaml");
    let text = fs::read_to_string(&file).unwrap();
    write(&file, &text.replace("\nvpn:\n  enabled: true\n", "\nvpn:\n  enabled: false\n"));
    stdout(&run(dir, &["whoami", "--config", "config.yaml"])).trim().to_owned()
}

/// The keys of each line.
fn shape(lines: &str) -> Vec<Vec<String>> {
    let keys = |line: &str| {
        let object: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        object.keys().cloned().collect()
    };
    lines.lines().map(keys).collect()
}
