//! Starting a daemon that outlives the command that starts it.
//!
//! The child gets a session of its own (a closed terminal does not reach it), nothing on standard input, and its
//! standard error appended to a log file. Its standard output is a pipe to the parent for one line: the child
//! says "ready" with [`announce`], which then points standard output elsewhere, so that the parent may go.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::files::{WriteError, open_log};

/// What a readiness line may hold; longer ones are cut.
const MAX_LINE: u64 = 16 * 1024;

/// A daemon that was started and may still be starting up.
#[derive(Debug)]
pub struct Background {
    child: Child,
    log: PathBuf,
}

/// The daemon was not started.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    #[error("the daemon's log cannot be opened")]
    Log(#[source] WriteError),
    #[error("cannot start {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The daemon was started but did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    #[error("the daemon ended while starting up ({status})")]
    Ended { status: ExitStatus, log: PathBuf },
    #[error("the daemon is not ready after {} s", limit.as_secs_f32())]
    Timeout { limit: Duration, log: PathBuf },
    #[error("the daemon's readiness line cannot be read")]
    Read {
        log: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl ReadyError {
    /// The file that tells more.
    pub fn log(&self) -> &Path {
        match self {
            Self::Ended { log, .. } | Self::Timeout { log, .. } | Self::Read { log, .. } => log,
        }
    }
}

/// Starts `program` in the background, in the working directory of the caller.
pub fn detach<S: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
    log: &Path,
) -> Result<Background, DetachError> {
    let stderr = open_log(log).map_err(DetachError::Log)?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    // SAFETY: the closure runs in the forked child and makes one async-signal-safe system call, setsid(2); it
    // neither allocates nor touches a lock.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from)) };
    let child = command.spawn().map_err(|source| DetachError::Spawn { program: program.into(), source })?;
    Ok(Background { child, log: log.into() })
}

impl Background {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the readiness line and returns it. The daemon goes on whatever comes of it.
    pub fn wait_ready(self, limit: Duration) -> Result<String, ReadyError> {
        let Self { child, log } = self;
        let (sender, receiver) = sync_channel(1);
        thread::spawn(move || sender.send(first_line(child)));
        match receiver.recv_timeout(limit) {
            Ok(Ok(Start::Ready(line))) => Ok(line),
            Ok(Ok(Start::Ended(status))) => Err(ReadyError::Ended { status, log }),
            Ok(Err(source)) => Err(ReadyError::Read { log, source }),
            Err(RecvTimeoutError::Timeout) => Err(ReadyError::Timeout { limit, log }),
            Err(RecvTimeoutError::Disconnected) => {
                Err(ReadyError::Read { log, source: io::ErrorKind::BrokenPipe.into() })
            }
        }
    }
}

enum Start {
    Ready(String),
    Ended(ExitStatus),
}

fn first_line(mut child: Child) -> io::Result<Start> {
    let output = child.stdout.take().expect("standard output is a pipe");
    let mut line = String::new();
    BufReader::new(output.take(MAX_LINE)).read_line(&mut line)?;
    match line.trim_end() {
        "" => child.wait().map(Start::Ended),
        line => Ok(Start::Ready(line.to_owned())),
    }
}

/// Called by the daemon: tells the waiting parent that it is ready, in one line, and lets go of the pipe.
pub fn announce(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(null).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const PLENTY: Duration = Duration::from_secs(30);

    #[test]
    fn a_daemon_has_its_own_session_and_its_log() {
        let dir = TempDir::new().unwrap();
        let script = "read -r pid name state parent group session rest < /proc/$$/stat; \
                      echo trouble >&2; echo \"session $session\"; echo more";
        let daemon = shell(script, dir.path());
        let pid = daemon.pid();
        assert_eq!(daemon.wait_ready(PLENTY).unwrap(), format!("session {pid}"));
        assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "trouble\n");
    }

    #[test]
    fn a_daemon_that_ends_early_is_reported_with_its_status() {
        let dir = TempDir::new().unwrap();
        let error = shell("exit 5", dir.path()).wait_ready(PLENTY).unwrap_err();
        assert!(matches!(&error, ReadyError::Ended { status, .. } if status.code() == Some(5)), "{error}");
        assert_eq!(error.log(), dir.path().join("log"));
    }

    #[test]
    fn a_daemon_that_never_gets_ready_is_not_waited_for() {
        let dir = TempDir::new().unwrap();
        let daemon = shell("exec sleep 60", dir.path());
        let pid = nix::unistd::Pid::from_raw(daemon.pid().try_into().unwrap());
        let error = daemon.wait_ready(Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, ReadyError::Timeout { .. }), "{error}");
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let dir = TempDir::new().unwrap();
        let error = detach(Path::new("/nonexistent"), ["x"], &dir.path().join("log")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start /nonexistent");
    }

    fn shell(script: &str, dir: &Path) -> Background {
        detach(Path::new("/bin/sh"), ["-c", script], &dir.join("log")).unwrap()
    }
}
