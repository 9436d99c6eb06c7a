//! The real binary as daemons, relays and commands, each with a directory of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use crate::peerup;

pub fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

pub fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(peerup());
    command.args(args).current_dir(dir);
    command.env("XDG_RUNTIME_DIR", dir.parent().unwrap().join("run"));
    for variable in ["PEERUP_CONFIG", "SUDO_UID", "SUDO_GID", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
    command
}

pub fn run(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).stdin(Stdio::null()).output().unwrap()
}

/// A process that has said its first line, which it says when it is ready; killed when dropped.
pub struct Process {
    pub child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = command(dir, args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self { child, lines };
        process.next_line();
        process
    }

    pub fn next_line(&mut self) -> String {
        self.lines.next().expect("the process said something").unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that has ended already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
