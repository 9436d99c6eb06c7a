//! A command as the namespace's only purpose.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::{NamespaceError, Stage};

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Code(u8),
    Signal(i32),
}

/// Runs a command to its end. Signals to this process go to the command; those of the terminal reach it anyway.
pub fn run(program: &OsStr, arguments: &[impl AsRef<OsStr>]) -> Result<Ended, NamespaceError> {
    let failed = |source| NamespaceError::Failed { stage: Stage::Start, source };
    let watched = [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP];
    let watched: SigSet = watched.into_iter().collect();
    // Blocked before the command starts, so that its end is not missed; the standard library unblocks them for it.
    watched.thread_block().map_err(|errno| failed(errno.into()))?;
    let mut child = Command::new(program).args(arguments).spawn().map_err(failed)?;
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(ended(status));
        }
        // The terminal sends the others to the command as well, which decides what they mean.
        if let signal @ (Signal::SIGTERM | Signal::SIGHUP) =
            watched.wait().map_err(|errno| failed(errno.into()))?
        {
            pass_on(&child, signal);
        }
    }
}

fn pass_on(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended by itself meanwhile.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(u8::try_from(code).unwrap_or(1)),
        (None, signal) => Ended::Signal(signal.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_a_command_ends_is_told() {
        let sh = |script: &str| run(OsStr::new("sh"), &["-c", script]).unwrap();
        assert_eq!(sh("exit 3"), Ended::Code(3));
        assert_eq!(sh("kill -9 $$"), Ended::Signal(9));
        let error = run(OsStr::new("/nonexistent/program"), &[] as &[&str]).unwrap_err();
        assert_eq!(error.to_string(), "cannot start the command");
    }
}
