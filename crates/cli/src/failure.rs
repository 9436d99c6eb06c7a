//! How a command ends when it does not succeed: one line about what failed, one `hint:` with the next step, and an
//! exit code. Every library error becomes one of these, here and nowhere else.

use std::{error::Error, fmt, io, process::ExitCode};

use peerup_config::{AddressError, ConfigError, RelayInputError};
use peerup_control::{ApiError, ClientError, ErrorKind};
use peerup_service::files::{LockError, PrivateFileError, WriteError};
use peerup_trust::authorized_keys;
use serde::{Deserialize, Serialize};

/// Exit codes (`peerup --help` lists them). 2 is also what the argument parser uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    Ok,
    Failure,
    Usage,
    Degraded,
    NotRunning,
    Conflict,
    NotAuthorised,
    Timeout,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Degraded => 3,
            Exit::NotRunning => 4,
            Exit::Conflict => 5,
            Exit::NotAuthorised => 6,
            Exit::Timeout => 7,
        })
    }
}

/// The daemon's and the relay's errors carry the documented code.
impl From<u8> for Exit {
    fn from(code: u8) -> Self {
        match code {
            0 => Self::Ok,
            2 => Self::Usage,
            3 => Self::Degraded,
            4 => Self::NotRunning,
            5 => Self::Conflict,
            6 => Self::NotAuthorised,
            7 => Self::Timeout,
            _ => Self::Failure,
        }
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Failure | ErrorKind::NotFound | ErrorKind::Unreachable => Self::Failure,
            ErrorKind::BadRequest | ErrorKind::TooLarge => Self::Usage,
            ErrorKind::NotRunning => Self::NotRunning,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::NotAuthenticated | ErrorKind::NotAuthorised => Self::NotAuthorised,
            ErrorKind::Timeout => Self::Timeout,
        }
    }
}

#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// Empty when the reader of our output has gone: nobody is left to tell.
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failure, message: message.into(), hint: None }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(message).exit(Exit::Usage)
    }

    pub fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// For a failure that brings no hint of its own.
    pub fn default_hint(self, hint: &str) -> Self {
        let hint = self.hint.or_else(|| Some(hint.to_owned()));
        Self { hint, ..self }
    }

    /// Adds to a hint that may be there.
    pub fn also_hint(self, more: &str) -> Self {
        let hint = self.hint.as_ref().map_or_else(|| more.to_owned(), |hint| format!("{hint}; {more}"));
        self.hint(hint)
    }

    pub fn or_hint(self, hint: Option<impl Into<String>>) -> Self {
        Self { hint: hint.map(Into::into).or(self.hint), ..self }
    }

    /// The error with all its causes, in one line.
    pub fn of(error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // `#[error(transparent)]` repeats its source word for word.
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        Self::new(message)
    }

    /// Prefixes what was attempted.
    pub fn while_doing(self, attempt: impl fmt::Display) -> Self {
        Self { message: format!("{attempt}: {}", self.message), ..self }
    }

    /// Standard output could not be written. `peerup peers | head -1` closing the pipe early is success.
    pub fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Ok, message: String::new(), hint: None };
        }
        Self::new(format!("cannot write to standard output: {error}"))
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Prints to standard error, as the last thing a command does.
    pub fn report(&self) {
        use io::Write;
        let mut err = io::stderr().lock();
        if !self.message.is_empty() {
            let _ = writeln!(err, "error: {}", self.message);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(err, "hint: {hint}");
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::of(&error).exit(error.kind.into()).or_hint(error.hint)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::of(&error).exit(error.kind().into()).or_hint(error.hint())
    }
}

impl From<PrivateFileError> for Failure {
    fn from(error: PrivateFileError) -> Self {
        Self::of(&error).or_hint(error.hint())
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        Self::of(&error).or_hint(error.hint())
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::of(&error).or_hint(error.hint())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::of(&error).or_hint(error.hint())
    }
}

impl From<RelayInputError> for Failure {
    fn from(error: RelayInputError) -> Self {
        Self::of(&error).exit(Exit::Usage).or_hint(error.hint())
    }
}

impl From<AddressError> for Failure {
    fn from(error: AddressError) -> Self {
        Self::of(&error).exit(Exit::Usage).or_hint(error.hint())
    }
}

impl From<authorized_keys::AddError> for Failure {
    fn from(error: authorized_keys::AddError) -> Self {
        let failure = Self::of(&error);
        match error {
            authorized_keys::AddError::Duplicate(_) => {
                failure.exit(Exit::Conflict).hint("`peerup auth list` shows who is")
            }
            authorized_keys::AddError::Full => failure.hint("`peerup auth remove` makes room"),
        }
    }
}

impl From<authorized_keys::UnknownPeer> for Failure {
    fn from(error: authorized_keys::UnknownPeer) -> Self {
        Self::of(&error).hint("`peerup auth list` shows who is")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_the_message_and_are_not_repeated() {
        let source = io::Error::other("disk full");
        let failure = Failure::from(WriteError { path: "/x/y".into(), source });
        assert_eq!(failure.message, "cannot write /x/y: disk full");
    }

    #[test]
    fn a_closed_pipe_is_success_without_a_word() {
        let failure = Failure::output(io::ErrorKind::BrokenPipe.into());
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Ok, ""));
    }

    #[test]
    fn exit_codes_agree_with_the_api() {
        let kinds = [ErrorKind::Failure, ErrorKind::BadRequest, ErrorKind::NotRunning, ErrorKind::Conflict];
        for (kind, code) in kinds.into_iter().zip([1, 2, 4, 5]) {
            assert_eq!(ExitCode::from(Exit::from(kind)), ExitCode::from(code));
            assert_eq!(kind.exit_code(), code);
            assert_eq!(Exit::from(code), Exit::from(kind));
        }
    }
}
