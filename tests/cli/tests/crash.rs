//! kill -9 at fifty random points while configuration, keys and pairing are written: no key is lost, no file is half
//! written, and the node comes up. The seed is printed; `CRASH_SEED` repeats a run.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use peerup_cli_tests::peerup;
use tempfile::TempDir;

const ANCHOR: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";
const GUEST: &str = "12D3KooWCkdsAv5fQcRVGTEFGfqyhUm1jD7XzF7a8BqVZJxBGZ8k";
const OLD: &str = "# old\nvpn: {enabled: false}\nnetwork: {listen_addresses: [/ip4/127.0.0.1/tcp/0], port_mapping: off}\ndiscovery: {mdns: off}\n";
/// Fifty together.
const CHANGES: usize = 20;
const KEY_EDITS: usize = 14;
const DAEMONS: usize = 8;
const PAIRINGS: usize = 8;

#[test]
fn a_node_survives_fifty_kills() {
    let mut dice = Dice::new();
    let node = Dir::new();
    let identity = fs::read(node.file("identity.key")).unwrap();
    for point in 0..CHANGES {
        node.killed_in_a_change(&mut dice);
        node.check(&identity, &format!("change {point}"));
    }
    for point in 0..KEY_EDITS {
        node.killed_while_keys_are_edited(point, &mut dice);
        node.check(&identity, &format!("edit of the keys {point}"));
    }
    for point in 0..DAEMONS {
        node.killed_while_a_daemon_follows(&mut dice);
        node.check(&identity, &format!("daemon {point}"));
    }
    let mut daemon = node.daemon();
    assert!(node.ok(&["daemon", "stop"]));
    assert!(daemon.wait().unwrap().success());
}

#[test]
fn two_nodes_survive_kills_while_they_pair() {
    let mut dice = Dice::new();
    let (relay, address) = relay();
    let inviter = Dir::paired_by(&address, &relay);
    let joiner = Dir::paired_by(&address, &relay);
    let identities = [&inviter, &joiner].map(|dir| fs::read(dir.file("identity.key")).unwrap());
    for point in 0..PAIRINGS {
        let (mut invite, code) = inviter.invite();
        let mut join = joiner.spawn(&["join", "--non-interactive", &code]);
        wait(dice.below(400));
        let victim = if dice.below(2).is_zero() { &mut invite } else { &mut join };
        kill(victim);
        // The other one ends by itself or is ended; nobody pairs with the dead.
        wait(Duration::from_millis(50));
        kill(&mut invite);
        kill(&mut join);
        inviter.check(&identities[0], &format!("inviter {point}"));
        joiner.check(&identities[1], &format!("joiner {point}"));
    }
    let (mut invite, code) = inviter.invite();
    let joined = joiner.command(&["join", "--non-interactive", &code]).output().unwrap();
    kill(&mut invite);
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
    for dir in [&inviter, &joiner] {
        kill(&mut dir.daemon());
    }
}

/// A node's directory.
struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        let dir = Self(TempDir::new().unwrap());
        dir.write("config.yaml", OLD);
        dir.write("new.yaml", &OLD.replace("# old", "# new\nnode: {name: other}"));
        dir.write("authorized_keys", &format!("{ANCHOR}  # anchor\n"));
        let mut daemon = {
            // The first start of a node that knows nobody makes its key.
            fs::remove_file(dir.file("authorized_keys")).unwrap();
            dir.daemon()
        };
        kill(&mut daemon);
        dir.write("authorized_keys", &format!("{ANCHOR}  # anchor\n"));
        dir
    }

    /// A node that the relay admits.
    fn paired_by(address: &str, relay: &RelayDir) -> Self {
        let dir = Self(TempDir::new().unwrap());
        assert!(dir.plain(&["init", "--non-interactive", "--dir", ".", "--relay", address]));
        let text = fs::read_to_string(dir.file("config.yaml")).unwrap();
        dir.write("config.yaml", &text.replace("enabled: true\n  interface", "enabled: false\n  interface"));
        let id = dir.command(&["whoami"]).output().unwrap().stdout;
        let id = String::from_utf8(id).unwrap();
        let authorize = ["relay", "authorize", id.trim()];
        assert!(
            Command::new(peerup()).args(authorize).current_dir(relay.dir.path()).status().unwrap().success()
        );
        dir
    }

    fn killed_in_a_change(&self, dice: &mut Dice) {
        let name = format!("node{}", dice.below(100).as_millis());
        let commands: [&[&str]; 6] = [
            &["config", "apply", "new.yaml", "--confirm-timeout", "1h"],
            &["config", "confirm"],
            &["config", "rollback"],
            &["config", "set", "node.name", &name],
            &["config", "unset", "node.name"],
            &["config", "apply", "new.yaml", "--confirm-timeout", "1s"],
        ];
        let command = commands[dice.below(commands.len()).as_millis() as usize];
        let mut child = self.spawn(command);
        wait(dice.below(25));
        kill(&mut child);
    }

    /// One guest comes and goes. What an edit that was not killed has done stays done.
    fn killed_while_keys_are_edited(&self, point: usize, dice: &mut Dice) {
        let edits: [&[&str]; 2] = [&["auth", "add", GUEST, "--comment", "guest"], &["auth", "remove", GUEST]];
        let (edit, undo) = (edits[point % 2], edits[(point + 1) % 2]);
        // Its success is not certain: the last kill may have come before or after the writing.
        let _ = self.ok(undo);
        let mut child = self.spawn(edit);
        wait(dice.below(25));
        kill(&mut child);
        let _ = self.ok(edit);
        let keys = fs::read_to_string(self.file("authorized_keys")).unwrap();
        assert_eq!(keys.matches(GUEST).count(), 1 - point % 2, "{point}: {keys}");
    }

    /// The daemon dies while it takes a change, or while it takes it back.
    fn killed_while_a_daemon_follows(&self, dice: &mut Dice) {
        let _ = self.ok(&["config", "rollback"]);
        let mut daemon = self.daemon();
        let mut apply = self.spawn(&["config", "apply", "new.yaml", "--confirm-timeout", "1s"]);
        wait(dice.below(1500));
        kill(&mut daemon);
        let _ = apply.wait();
    }

    fn check(&self, identity: &[u8], point: &str) {
        assert_eq!(fs::read(self.file("identity.key")).unwrap(), identity, "{point}: another identity");
        let validated = self.command(&["config", "validate"]).output().unwrap();
        assert!(validated.status.success(), "{point}: {}", String::from_utf8_lossy(&validated.stderr));
        let validated = self.command(&["auth", "validate"]).output().unwrap();
        assert!(validated.status.success(), "{point}: {}", String::from_utf8_lossy(&validated.stdout));
        let keys = fs::read_to_string(self.file("authorized_keys")).unwrap_or_default();
        let anchored = !self.file("new.yaml").exists() || keys.contains(ANCHOR);
        assert!(anchored && (keys.is_empty() || keys.ends_with('\n')), "{point}: {keys:?}");
        for entry in fs::read_dir(self.0.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{point}: {:?} is open to others", entry.path());
        }
    }

    fn invite(&self) -> (Child, String) {
        for _ in 0..50 {
            let mut invite = self.spawn(&["invite", "--non-interactive"]);
            let mut code = String::new();
            BufReader::new(invite.stdout.take().unwrap()).read_line(&mut code).unwrap();
            if !code.is_empty() {
                return (invite, code.trim().to_owned());
            }
            // The lock of a killed predecessor or its reservation may take a moment.
            kill(&mut invite);
            wait(Duration::from_millis(200));
        }
        panic!("no invite came");
    }

    fn daemon(&self) -> Child {
        let mut child = self.spawn(&["daemon"]);
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the daemon did not come up");
        // Its later lines need a reader, or they would be errors.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        child
    }

    fn spawn(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn ok(&self, words: &[&str]) -> bool {
        self.command(words).output().unwrap().status.success()
    }

    fn plain(&self, words: &[&str]) -> bool {
        Command::new(peerup()).args(words).current_dir(self.0.path()).output().unwrap().status.success()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(peerup());
        command.args(words).args(["--config", "config.yaml"]).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
        fs::set_permissions(self.file(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        let dir: &Path = self.0.path();
        dir.join(name)
    }
}

struct RelayDir {
    dir: TempDir,
    process: Child,
}

impl Drop for RelayDir {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

fn relay() -> (RelayDir, String) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("relay-server.yaml");
    fs::write(&file, "network: {listen_addresses: [/ip4/127.0.0.1/tcp/0]}\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut process = Command::new(peerup())
        .args(["relay", "serve"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("/ip4/")).unwrap();
    (RelayDir { dir, process }, address)
}

fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// splitmix64
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_120);
        eprintln!("CRASH_SEED={seed}");
        Self(seed)
    }

    /// Less than this many milliseconds.
    fn below(&mut self, bound: usize) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_millis((z ^ (z >> 31)) % bound as u64)
    }
}

#[expect(clippy::disallowed_methods, reason = "a process is killed at a point in time")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}
