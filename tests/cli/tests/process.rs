//! Real daemons, relays and pairing hosts on loopback, as processes: what they keep of the privileges they were
//! started with, and where their files go. Started by root they hold something to give up; started by anybody else
//! they prove that they run without.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use peerup_cli_tests::{Process, peerup, run, write};
use tempfile::TempDir;

/// An account that owns nothing else.
const NOBODY: u32 = 65_533;
const NO_INTERFACE: &str =
    "vpn: {enabled: false}\ndiscovery: {mdns: off}\nnetwork: {listen_addresses: [/ip4/127.0.0.1/tcp/0]}\n";

#[test]
fn a_daemon_without_an_interface_becomes_the_owner_of_its_files_and_keeps_no_privilege() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("config.yaml"), NO_INTERFACE);
    let owner = give_away(dir.path());
    let daemon = Process::start(dir.path(), &["daemon", "--config", "config.yaml"]);
    assert_unprivileged(&daemon, owner);
    for file in ["identity.key", ".listen-port", "peerup.sock"] {
        assert_eq!(fs::metadata(dir.path().join(file)).unwrap().uid(), owner, "{file}");
    }
    assert!(run(dir.path(), &["daemon", "stop", "--config", "config.yaml"]).status.success());
}

#[test]
fn a_relay_and_a_pairing_host_become_the_owners_of_their_files_and_keep_no_privilege() {
    let dirs = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (relay_dir, node_dir) = (dirs.0.path(), dirs.1.path());
    write(
        &relay_dir.join("relay-server.yaml"),
        "network: {listen_addresses: [/ip4/127.0.0.1/tcp/0], external_addresses: []}\n",
    );
    let owner = give_away(relay_dir);
    let mut relay = Process::start(relay_dir, &["relay", "serve"]);
    assert_unprivileged(&relay, owner);
    let address = relay.next_line();

    let init = run(node_dir, &["init", "--non-interactive", "--dir", ".", "--relay", &address]);
    assert!(init.status.success(), "{init:?}");
    let owner = give_away(node_dir);
    let id = String::from_utf8(run(node_dir, &["whoami", "--config", "config.yaml"]).stdout).unwrap();
    assert!(run(relay_dir, &["relay", "authorize", id.trim()]).status.success());
    let pairing = Process::start(node_dir, &["invite", "--non-interactive", "--config", "config.yaml"]);
    assert_unprivileged(&pairing, owner);
    assert_eq!(fs::metadata(node_dir.join(".peerup.lock")).unwrap().uid(), owner);
}

#[test]
fn a_socket_that_moves_finds_a_private_directory_or_the_daemon_does_not_start() {
    let base = TempDir::new().unwrap();
    let dir = base.path().join("d".repeat(120));
    fs::create_dir(&dir).unwrap();
    write(&dir.join("config.yaml"), NO_INTERFACE);
    let runtime = base.path().join("run");
    let daemon = Process::start(&dir, &["daemon", "--config", "config.yaml"]);
    assert_eq!(fs::metadata(&runtime).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(fs::read_dir(&runtime).unwrap().count(), 1);
    assert!(run(&dir, &["daemon", "stop", "--config", "config.yaml"]).status.success());
    drop(daemon);

    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = run(&dir, &["daemon", "--config", "config.yaml"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("can be changed by other users") && said.contains("chmod 700"), "{said}");
}

#[test]
fn members_of_the_api_group_may_ask_and_others_may_not() {
    if nix::unistd::geteuid().as_raw() != 0 {
        return;
    }
    let (group, gid) = ("daemon", nix::unistd::Group::from_name("daemon").unwrap().unwrap().gid.as_raw());
    let base = TempDir::new().unwrap();
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = base.path().join("node");
    fs::create_dir(&dir).unwrap();
    write(&dir.join("config.yaml"), &format!("{NO_INTERFACE}api: {{group: {group}}}\n"));
    give_away(&dir);
    let _daemon = Process::start(&dir, &["daemon", "--config", "config.yaml"]);
    let mode = |file: &str| fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("peerup.sock"), mode(".daemon-cookie"), mode("")), (0o660, 0o640, 0o2750));
    assert_eq!(mode("identity.key"), 0o600);
    for (gid, expected) in [(gid, 0), (NOBODY - 1, 1)] {
        let mut ask = Command::new(peerup());
        ask.args(["daemon", "status", "--config"]).arg(dir.join("config.yaml")).env_remove("PEERUP_CONFIG");
        let output = ask.current_dir("/").uid(NOBODY - 1).gid(gid).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{gid}: {output:?}");
    }
}

/// Root gives the directory and what is in it to another account; the owner is the one whom the process becomes.
fn give_away(dir: &Path) -> u32 {
    let me = fs::metadata(dir).unwrap().uid();
    if me != 0 {
        return me;
    }
    for entry in fs::read_dir(dir).unwrap() {
        chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
    NOBODY
}

/// Capabilities belong to threads, so every thread is looked at.
fn assert_unprivileged(process: &Process, owner: u32) {
    let threads: Vec<_> = fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap().collect();
    assert!(!threads.is_empty());
    for thread in threads {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(value(set), "0000000000000000", "{set} in {status}");
        }
        assert_eq!(value("Uid:"), vec![owner.to_string(); 4].join("\t"), "{status}");
    }
}
