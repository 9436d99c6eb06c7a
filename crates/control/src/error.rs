//! What went wrong, in the words both HTTP and the shell understand.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of failure. It chooses the HTTP status of an answer and the exit code of the command that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    Failure,
    BadRequest,
    /// The request body is larger than 1 MiB.
    TooLarge,
    /// No cookie, or not the cookie of this start of the daemon.
    NotAuthenticated,
    /// Known, but not allowed: a uid the daemon does not serve, a peer outside `authorized_keys`.
    NotAuthorised,
    NotFound,
    /// The peer cannot be reached.
    Unreachable,
    NotRunning,
    Conflict,
    Timeout,
}

impl ErrorKind {
    pub fn http_status(self) -> u16 {
        match self {
            Self::Failure => 500,
            Self::BadRequest => 400,
            Self::TooLarge => 413,
            Self::NotAuthenticated => 401,
            Self::NotAuthorised => 403,
            Self::NotFound => 404,
            Self::Unreachable => 502,
            Self::NotRunning => 503,
            Self::Conflict => 409,
            Self::Timeout => 504,
        }
    }

    /// The exit code of a command that fails this way; 0 and 3 (degraded) are not failures.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failure | Self::NotFound | Self::Unreachable => 1,
            Self::BadRequest | Self::TooLarge => 2,
            Self::NotRunning => 4,
            Self::Conflict => 5,
            Self::NotAuthenticated | Self::NotAuthorised => 6,
            Self::Timeout => 7,
        }
    }
}

/// A failed request: what was attempted and why it failed, and the next command to try where one is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("{message}")]
pub struct ApiError {
    pub kind: ErrorKind,
    #[serde(rename = "error")]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ApiError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub fn failure(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failure, message)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_travels_as_error_hint_and_kind() {
        let error =
            ApiError::new(ErrorKind::Conflict, "10.64.0.0/16 is taken").with_hint("peerup init --range …");
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"conflict","error":"10.64.0.0/16 is taken","hint":"peerup init --range …"}"#
        );
        assert_eq!(serde_json::from_str::<ApiError>(&text).unwrap(), error);
    }
}
