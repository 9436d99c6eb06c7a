//! Log lines for people and for the journal, and a count of panics; audit lines and metrics for whoever asks for them.
//!
//! One subscriber for the process, writing text to standard error: `peerup daemon` sends it to a file or to
//! journald, which adds the date itself when it wants one. `PEERUP_LOG` takes the filter syntax of
//! `tracing-subscriber` (`debug`, `peerup_swarm=trace,info`); without it peerup speaks at INFO and the libp2p
//! family at WARN.
//!
//! A panic is logged at ERROR with its place and counted. A supervisor may catch the unwinding afterwards; the
//! count and the line make sure that nobody overlooks it.
#![forbid(unsafe_code)]

pub mod audit;
pub mod exporter;
mod filter;
pub mod metrics;
mod panics;

pub use filter::ENVIRONMENT;
pub use panics::panics;

use std::env;
use std::io::{IsTerminal, stderr};

use tracing_subscriber::fmt;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `2026-01-31T09:05:00.123456Z  INFO peerup_daemon: up interface="peerup0"`
    Text,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("PEERUP_LOG=\"{value}\" is not a log filter")]
    Filter {
        value: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("logging is already set up")]
    AlreadySet,
}

impl InitError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Filter { .. } => {
                Some("use a level (error, warn, info, debug, trace) or target=level, comma separated")
            }
            Self::AlreadySet => None,
        }
    }
}

/// Sets up logging and the panic hook for the whole process.
pub fn init(format: Format) -> Result<(), InitError> {
    let filter = filter::from_environment(env::var(ENVIRONMENT).ok())?;
    let colour =
        colour(stderr().is_terminal(), env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()));
    let subscriber = fmt().with_env_filter(filter).with_ansi(colour).with_writer(stderr);
    match format {
        Format::Text => subscriber.try_init().map_err(|_| InitError::AlreadySet)?,
    }
    panics::install_hook();
    Ok(())
}

/// <https://no-color.org>: any non-empty `NO_COLOR` wins.
fn colour(terminal: bool, no_color: bool) -> bool {
    terminal && !no_color
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_does_not_object_gets_colour() {
        assert!(colour(true, false));
        assert!(!colour(true, true));
        assert!(!colour(false, false));
    }
}
