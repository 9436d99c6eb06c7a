//! Why the relay could not start.

use std::{io, path::PathBuf};

use peerup_config::ConfigError;
use peerup_service::files::{LockError, PrivateFileError, StoreError, WriteError};
use peerup_swarm::{BuildError, ListenError};
use peerup_trust::{authorized_keys::ParseError, identity::IdentityError};
use peerup_types::Multiaddr;

#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    File(#[from] PrivateFileError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{} is not UTF-8 text", path.display())]
    NotText { path: PathBuf },
    #[error("{} is not valid", path.display())]
    Config { path: PathBuf, source: ConfigError },
    #[error("{} is not valid", path.display())]
    Keys { path: PathBuf, source: ParseError },
    #[error("{} is not an identity key", path.display())]
    Identity { path: PathBuf, source: IdentityError },
    #[error("another relay uses this configuration")]
    Locked(#[from] LockError),
    #[error("cannot listen on {address}")]
    Bind { address: Multiaddr, source: io::Error },
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("no port was bound for {address} in time")]
    NoPort { address: Multiaddr },
    #[error("cannot set up the peer-to-peer network")]
    Swarm(#[from] BuildError),
    #[error(transparent)]
    Metrics(#[from] peerup_telemetry::exporter::ExportError),
    #[error(transparent)]
    Token(#[from] peerup_service::files::TokenError),
    #[error("cannot drop privileges")]
    Privileges(#[from] peerup_service::PrivilegeError),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot watch signals")]
    Signals(#[source] io::Error),
}

/// Exit codes of DESIGN §6.
const FAILURE: u8 = 1;
const CONFLICT: u8 = 5;

impl RelayError {
    /// The next step, where one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Write(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Config { source, .. } => source.hint(),
            Self::Keys { .. } => {
                Some("correct that line; `peerup relay list-peers` shows all that are wrong".into())
            }
            Self::Identity { path, .. } => Some(format!(
                "restore {} from a backup; a new identity needs new codes and configs",
                path.display()
            )),
            Self::Locked(error @ LockError::Io { .. }) => error.hint(),
            Self::Locked(_) => Some("stop it first, or give this one a directory of its own".into()),
            Self::Bind { source, .. } => bind_hint(source.kind()),
            Self::Metrics(_) => {
                Some("choose another health.listen_address or telemetry.metrics.listen_address".into())
            }
            Self::NotText { .. }
            | Self::Token(_)
            | Self::Listen(_)
            | Self::NoPort { .. }
            | Self::Swarm(_)
            | Self::Privileges(_)
            | Self::Runtime(_)
            | Self::Signals(_) => None,
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Locked(LockError::Held { .. }) => CONFLICT,
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => CONFLICT,
            Self::File(_)
            | Self::Write(_)
            | Self::Store(_)
            | Self::NotText { .. }
            | Self::Metrics(_)
            | Self::Token(_)
            | Self::Config { .. }
            | Self::Keys { .. }
            | Self::Identity { .. }
            | Self::Locked(_)
            | Self::Bind { .. }
            | Self::Listen(_)
            | Self::NoPort { .. }
            | Self::Swarm(_)
            | Self::Privileges(_)
            | Self::Runtime(_)
            | Self::Signals(_) => FAILURE,
        }
    }
}

fn bind_hint(kind: io::ErrorKind) -> Option<String> {
    match kind {
        io::ErrorKind::AddrInUse => Some("`ss -tulpn` shows which program has the port".into()),
        io::ErrorKind::AddrNotAvailable => {
            Some("no interface has this address; `ip address` lists them".into())
        }
        io::ErrorKind::PermissionDenied => Some("ports below 1024 need CAP_NET_BIND_SERVICE".into()),
        _ => None,
    }
}
