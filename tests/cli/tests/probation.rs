//! Changes of a configuration that have to be confirmed, by the real programs on loopback: applied live, confirmed,
//! taken back at the deadline, across kill -9 and without a daemon.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use peerup_cli_tests::peerup;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

#[test]
fn a_change_that_is_confirmed_outlives_its_deadline_and_the_daemon_too() {
    let node = Node::new(24_101);
    let mut daemon = node.daemon();
    node.write("new.yaml", &config(24_102));
    node.apply("new.yaml", "5s");
    eventually("the new port", || listens(24_102));
    assert!(!listens(24_101), "the old listener is still there");
    node.ok(&["config", "confirm"]);
    wait(Duration::from_secs(7));
    assert!(listens(24_102) && daemon.runs(), "a confirmed change was taken back");
    assert_eq!(node.read(".config.last-good.yaml"), config(24_102));
    assert!(!node.path().join(".config.pending").exists());
}

#[test]
fn a_change_that_nobody_confirms_is_taken_back_by_the_running_daemon() {
    let node = Node::new(24_111);
    let mut daemon = node.daemon();
    node.write("new.yaml", &config(24_112));
    node.apply("new.yaml", "4s");
    eventually("the new port", || listens(24_112));
    assert!(node.run(&["status"]).contains("config-unconfirmed"));
    eventually("the old port", || listens(24_111));
    assert!(daemon.runs() && !listens(24_112));
    assert_eq!(node.read("config.yaml"), config(24_111));
    assert!(
        !node.path().join(".config.last-good.yaml").exists(),
        "an unconfirmed change became the last good one"
    );
}

#[test]
fn a_change_that_nobody_confirms_is_taken_back_after_a_crash() {
    let node = Node::new(24_121);
    let mut daemon = node.daemon();
    node.write("new.yaml", &config(24_122));
    node.apply("new.yaml", "3s");
    eventually("the new port", || listens(24_122));
    daemon.kill();
    // It starts again in time, with the change and its deadline.
    let mut daemon = node.daemon();
    assert!(listens(24_122) || node.read("config.yaml") == config(24_121));
    eventually("the old port", || listens(24_121));
    daemon.kill();
    node.apply("new.yaml", "1s");
    wait(Duration::from_millis(1500));
    // Nobody was there at the deadline: the next start goes back.
    let _daemon = node.daemon();
    assert!(listens(24_121));
    assert_eq!(node.read("config.yaml"), config(24_121));
}

#[test]
fn a_change_that_does_not_even_start_is_taken_back_at_once() {
    let node = Node::new(24_131);
    let mut daemon = node.daemon();
    // Valid, and no start: the key is not one.
    node.write("broken.key", "not a key");
    node.write("new.yaml", &format!("{}identity: {{key_file: broken.key}}\n", config(24_131)));
    node.apply("new.yaml", "10m");
    eventually("the former configuration", || node.read("config.yaml") == config(24_131));
    eventually("a daemon that answers", || node.try_run(&["whoami"]).status.success() && listens(24_131));
    assert!(daemon.runs());
}

#[test]
fn a_relay_follows_a_change_and_takes_it_back() {
    let dir = TempDir::new().unwrap();
    let relay = Node { dir };
    relay.write("relay-server.yaml", &relay_config(24_141));
    let mut process = relay.start(&["relay", "serve"]);
    eventually("the relay", || listens(24_141));
    relay.write("new.yaml", &relay_config(24_142));
    let apply = ["relay", "config", "apply", "new.yaml", "--confirm-timeout", "4s"];
    assert!(relay.plain(&apply).status.success());
    eventually("the new port", || listens(24_142));
    eventually("the old port", || listens(24_141));
    assert_eq!(relay.read("relay-server.yaml"), relay_config(24_141));
    assert!(relay.plain(&apply).status.success());
    eventually("the new port", || listens(24_142));
    assert!(relay.plain(&["relay", "config", "confirm"]).status.success());
    wait(Duration::from_secs(5));
    assert!(listens(24_142) && process.runs());
    assert_eq!(relay.read(".relay-server.last-good.yaml"), relay_config(24_142));
}

#[test]
fn an_editor_that_writes_nonsense_changes_nothing_and_what_was_typed_is_kept() {
    let node = Node::new(24_151);
    let edit = |script: &str| {
        let editor = node.path().join("editor");
        fs::write(&editor, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o700)).unwrap();
        let mut command = node.command(&["config", "edit"]);
        command.env("EDITOR", &editor).env_remove("VISUAL").stdin(Stdio::null()).output().unwrap()
    };
    let wrong = edit("echo 'vpn: {mtuu: 1}' > \"$1\"");
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(1), "{said}");
    assert!(said.contains("did you mean `mtu`?") && said.contains(".config.rejected.yaml"), "{said}");
    assert_eq!(node.read(".config.rejected.yaml"), "vpn: {mtuu: 1}\n");
    assert_eq!(node.read("config.yaml"), config(24_151));
    assert!(edit("exit 1").status.code() == Some(1));
    assert!(edit("echo '# mine' >> \"$1\"").status.success());
    assert_eq!(node.read("config.yaml"), config(24_151) + "# mine\n");
    assert!(!node.path().join(".config.edit.yaml").exists());
}

fn config(port: u16) -> String {
    format!(
        "vpn: {{enabled: false}}\nnetwork: {{listen_addresses: [/ip4/127.0.0.1/tcp/{port}], port_mapping: off}}\ndiscovery: {{mdns: off}}\n"
    )
}

fn relay_config(port: u16) -> String {
    format!(
        "network: {{listen_addresses: [/ip4/127.0.0.1/tcp/{port}], external_addresses: [/ip4/127.0.0.1/tcp/{port}]}}\n"
    )
}

/// A directory with a configuration in it.
struct Node {
    dir: TempDir,
}

struct Process(Child);

impl Node {
    fn new(port: u16) -> Self {
        let node = Self { dir: TempDir::new().unwrap() };
        node.write("config.yaml", &config(port));
        node
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    fn plain(&self, words: &[&str]) -> Output {
        Command::new(peerup()).args(words).current_dir(self.path()).output().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(peerup());
        command.args(words).args(["--config", "config.yaml"]).current_dir(self.path());
        command
    }

    fn try_run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn run(&self, words: &[&str]) -> String {
        String::from_utf8_lossy(&self.try_run(words).stdout).into_owned()
    }

    fn ok(&self, words: &[&str]) {
        let output = self.try_run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn apply(&self, file: &str, timeout: &str) {
        self.ok(&["config", "apply", file, "--confirm-timeout", timeout]);
    }

    fn daemon(&self) -> Process {
        self.start(&["daemon", "--config", "config.yaml"])
    }

    /// Waits for the first line, which comes when it is ready.
    fn start(&self, words: &[&str]) -> Process {
        let mut child = Command::new(peerup())
            .args(words)
            .current_dir(self.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{words:?} did not start");
        Process(child)
    }
}

impl Process {
    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if holds() {
            return;
        }
        wait(PAUSE);
    }
    panic!("{what} did not come");
}

#[expect(clippy::disallowed_methods, reason = "other processes are waited for")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}
