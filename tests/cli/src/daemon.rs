//! A control socket with a [`Node`] behind it, and the real binary in front of it.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use peerup_control::{BindOptions, Server};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{Node, peerup};

pub struct Daemon {
    pub dir: tempfile::TempDir,
    pub node: Arc<Node>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Daemon {
    pub async fn start(node: Node) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_config(dir.path().join("config.yaml"));
        let options = BindOptions {
            socket: dir.path().join("peerup.sock"),
            cookie: dir.path().join(".daemon-cookie"),
            allowed_uids: vec![own_uid()],
            group: None,
            owner: None,
        };
        let server = Server::bind(options).await.unwrap();
        let node = Arc::new(node);
        let (stop, stopped) = oneshot::channel();
        let runtime = node.clone();
        let task = tokio::spawn(async move {
            server.serve(runtime, async { stopped.await.unwrap() }).await.unwrap();
        });
        Self { dir, node, stop, task }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(peerup());
        command.args(arguments).arg("--config").arg(self.dir.path().join("config.yaml"));
        command.env_remove("PEERUP_CONFIG").stdin(Stdio::null());
        command
    }

    pub async fn peerup(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

fn write_config(file: PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(&file, "version: 1\n").unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

pub fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
