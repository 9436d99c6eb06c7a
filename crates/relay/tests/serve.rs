//! The whole process. Alone in this file, because signals go to every test of a process.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    process::{self, Command},
    sync::mpsc,
    thread,
    time::Duration,
};

use peerup_service::files::write_private_atomic;

const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn serving_reports_once_it_listens_and_ends_with_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("relay-server.yaml");
    let text =
        "version: 1\nnetwork: {listen_addresses: [/ip4/127.0.0.1/tcp/0, /ip4/127.0.0.1/udp/0/quic-v1]}\n";
    write_private_atomic(&config, text.as_bytes()).unwrap();
    let (ready, reports) = mpsc::sync_channel(1);
    let (done, ended) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let served = peerup_relay::serve(config, "test", |report| ready.send(report.clone()).unwrap());
        done.send(served).unwrap();
    });
    let report = reports.recv_timeout(DEADLINE).unwrap();
    assert_eq!(report.addresses.len(), 2);
    assert!(report.addresses.iter().all(|address| !address.to_string().contains("/0")), "{report:?}");
    let key = fs::read(dir.path().join("relay_node.key")).unwrap();
    assert_eq!(peerup_trust::identity::decode(&key).unwrap().public().to_peer_id(), report.peer_id);
    send("HUP");
    ended.recv_timeout(Duration::from_millis(200)).expect_err("SIGHUP does not end it");
    send("TERM");
    ended.recv_timeout(DEADLINE).unwrap().unwrap();
}

fn send(signal: &str) {
    let kill = format!("kill -{signal} {}", process::id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}
