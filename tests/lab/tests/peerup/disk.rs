//! Disks that are full or read-only: what was there stays, and the error says what, why and what to do.

use peerup_lab::peerup::Node;
use peerup_lab::{Host, Lab, Output, Show};

const KNOWN: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";
const OTHER: &str = "12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy";
const RELAY: &str = "/ip4/203.0.113.3/tcp/7777/p2p/12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";

/// Everything that writes a file of the node.
const EDITS: &[&[&str]] = &[
    &["config", "set", "vpn.mtu", "1300"],
    &["config", "unset", "node.name"],
    &["config", "apply", "NEW"],
    &["auth", "add", OTHER],
    &["auth", "remove", KNOWN],
    &["relay", "add", RELAY],
    &["service", "add", "ssh", "localhost:22"],
];

#[test]
fn edits_on_a_full_disk_change_nothing_and_say_why() {
    let (_lab, node, disk) = node("full", 256);
    disk.fill();
    let before = files(&node);
    for edit in EDITS {
        let failed = run(&node, edit);
        assert_eq!(failed.code, Some(1), "{failed}");
        for word in ["cannot write", "No space left on device", "hint: nothing has changed", "df -h"] {
            assert!(failed.stderr.contains(word), "{word}: {failed}");
        }
        assert_eq!(files(&node), before, "{edit:?}");
    }
    disk.make_room();
    for edit in [EDITS[0], EDITS[3], EDITS[6]] {
        assert_eq!(run(&node, edit).code, Some(0));
    }
    assert_ne!(files(&node), before);
}

#[test]
fn a_change_that_is_on_probation_when_the_disk_fills_is_still_taken_back() {
    let (_lab, node, disk) = node("probation", 256);
    let old = files(&node);
    run(&node, &["config", "apply", "NEW", "--confirm-timeout", "1h"]);
    assert_ne!(files(&node), old);
    disk.fill();
    let back = run(&node, &["config", "rollback"]);
    assert_eq!(back.code, Some(0), "{back}");
    assert_eq!(files(&node), old);
}

#[test]
fn a_change_is_confirmed_also_on_a_full_disk() {
    let (_lab, node, disk) = node("confirm", 256);
    run(&node, &["config", "apply", "NEW", "--confirm-timeout", "1h"]);
    let new = files(&node);
    disk.fill();
    // It removes more than it writes; where it did not, it would say what is confirmed and what is not kept.
    let confirmed = run(&node, &["config", "confirm"]);
    assert!(confirmed.code == Some(0) || confirmed.stderr.contains("the change is confirmed"), "{confirmed}");
    let nothing = run(&node, &["config", "confirm"]);
    assert!(nothing.stderr.contains("no change is waiting"), "{nothing}");
    assert_eq!(files(&node), new);
}

#[test]
fn edits_on_a_read_only_file_system_change_nothing_and_say_why() {
    let (_lab, node, disk) = node("read-only", 256);
    disk.read_only();
    let before = files(&node);
    for edit in EDITS {
        let failed = run(&node, edit);
        assert_eq!(failed.code, Some(1), "{failed}");
        for word in ["Read-only file system", "hint: nothing has changed", "findmnt -T"] {
            assert!(failed.stderr.contains(word), "{word}: {failed}");
        }
    }
    assert_eq!(files(&node), before);
    // Reading needs no writing.
    for read in [&["config", "show"][..], &["config", "validate"], &["auth", "list"], &["whoami"]] {
        assert_eq!(run(&node, read).code, Some(0), "{read:?}");
    }
}

/// A small file system of its own under a node's directory.
struct Disk {
    host: Host,
    dir: String,
}

fn node(name: &str, kib: u32) -> (Lab, Node, Disk) {
    let mut lab = Lab::new(name).unwrap();
    let host = lab.host("a").unwrap();
    let node = Node::new(host.clone(), Show::Command);
    let dir = node.dir().display().to_string();
    host.ask(&format!("mkdir -p -m 700 {dir} && mount -t tmpfs -o size={kib}k,mode=700 tmpfs {dir}"))
        .unwrap();
    node.init_without_relay().unwrap();
    node.peerup(["auth", "add", KNOWN, "--comment", "known"]).unwrap();
    // Another file system, so that it can be read when the other is full.
    let text = host.read(&node.dir().join("config.yaml")).unwrap();
    host.write(&new_config(&node), format!("{text}\ntelemetry: {{audit: {{enabled: true}}}}\n")).unwrap();
    (lab, node, Disk { host, dir })
}

fn new_config(node: &Node) -> std::path::PathBuf {
    node.host().dir().join("new.yaml")
}

impl Disk {
    fn fill(&self) {
        let filled = self.host.ask(&format!("head -c 10M /dev/zero > {}/filler || echo full", self.dir));
        assert!(filled.unwrap().contains("full"));
    }

    fn make_room(&self) {
        self.host.ask(&format!("rm {}/filler", self.dir)).unwrap();
    }

    fn read_only(&self) {
        self.host.ask(&format!("mount -o remount,ro {}", self.dir)).unwrap();
    }
}

fn run(node: &Node, words: &[&str]) -> Output {
    let new = new_config(node).display().to_string();
    let words = words.iter().map(|word| if *word == "NEW" { new.clone() } else { (*word).to_owned() });
    node.cmd(words).unwrap().try_run().unwrap()
}

/// What nobody may lose.
fn files(node: &Node) -> [String; 2] {
    ["config.yaml", "authorized_keys"].map(|name| node.host().read(&node.dir().join(name)).unwrap())
}
