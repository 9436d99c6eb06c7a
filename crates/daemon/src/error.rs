//! Why the daemon could not start or had to stop.

use std::path::PathBuf;

use peerup_control::{ApiError, ErrorKind};

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    File(#[from] peerup_service::files::PrivateFileError),
    #[error(transparent)]
    Write(#[from] peerup_service::files::WriteError),
    #[error("{} is not valid", path.display())]
    Config { path: PathBuf, source: peerup_config::ConfigError },
    #[error("{} cannot be changed", path.display())]
    Edit { path: PathBuf, source: peerup_config::edit::EditError },
    #[error("{} is not valid", path.display())]
    Keys { path: PathBuf, source: peerup_trust::authorized_keys::ParseError },
    #[error("{} is not UTF-8 text", path.display())]
    NotText { path: PathBuf },
    #[error(transparent)]
    Store(#[from] peerup_service::files::StoreError),
    #[error("{} is edited by another process", path.display())]
    EditLocked { path: PathBuf, source: peerup_service::files::LockError },
    #[error("{} is not an identity key", path.display())]
    Identity { path: PathBuf, source: peerup_trust::identity::IdentityError },
    #[error("{} is missing, and this node has peers that know it by that key", path.display())]
    IdentityLost { path: PathBuf },
    #[error("{} is not valid", path.display())]
    Peers { path: PathBuf, source: peerup_membership::YamlError },
    #[error("vpn.cidr cannot be used")]
    Prefix(#[from] peerup_membership::PrefixTooSmall),
    #[error("no address is free")]
    Exhausted(#[from] peerup_membership::Exhausted),
    #[error("another peerup process uses this configuration")]
    Locked(#[from] peerup_service::files::LockError),
    #[error("the overlay range cannot be used on this host")]
    Range(#[from] peerup_netcfg::RangeError),
    #[error("cannot create the interface")]
    Tun(#[from] peerup_tun::TunError),
    #[error("cannot configure the interface")]
    Network(#[from] peerup_netcfg::NetworkError),
    #[error("cannot drop privileges")]
    Privileges(#[from] peerup_service::PrivilegeError),
    #[error("cannot let api.group use the control socket")]
    Group(#[from] peerup_service::GroupError),
    #[error("cannot find out who runs peerup")]
    User(#[from] peerup_service::UserError),
    #[error("cannot set up the peer-to-peer network")]
    Swarm(#[from] peerup_swarm::BuildError),
    #[error(transparent)]
    Listen(#[from] peerup_swarm::ListenError),
    #[error(transparent)]
    Metrics(#[from] peerup_telemetry::exporter::ExportError),
    #[error(transparent)]
    Token(#[from] peerup_service::files::TokenError),
    #[error("cannot open the control socket")]
    Bind(#[from] peerup_control::BindError),
    #[error("cannot start the data thread")]
    Data(#[from] crate::data::StartError),
    #[error("the data thread ended; the log says why")]
    DataThread,
    #[error("cannot start the control thread's runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot find a free port to listen on")]
    Port(#[source] std::io::Error),
    #[error("cannot watch signals")]
    Signals(#[source] std::io::Error),
}

impl DaemonError {
    /// The next command to try, where one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Write(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Config { source, .. } => source.hint(),
            Self::Edit { source, .. } => source.hint(),
            Self::Keys { .. } => Some("peerup auth validate".into()),
            Self::Identity { path, .. } | Self::IdentityLost { path } => Some(format!(
                "restore {} from a backup; or move it, peers.yaml and authorized_keys away and pair again, as a new node",
                path.display()
            )),
            Self::Peers { path, .. } => {
                Some(format!("move {} away; peers tell each other their addresses again", path.display()))
            }
            Self::EditLocked { source, .. } => source.hint(),
            Self::Locked(error @ peerup_service::files::LockError::Io { .. }) => error.hint(),
            Self::Locked(_) => Some("peerup status, or peerup down to stop it".into()),
            Self::Range(peerup_netcfg::RangeError::Conflict(conflict)) => Some(conflict.hint()),
            Self::Tun(error) => Some(error.hint().into()),
            Self::Network(error) => error.hint().map(Into::into),
            Self::Group(error) => Some(error.hint()),
            Self::User(error) => Some(error.hint().into()),
            Self::Bind(peerup_control::BindError::AlreadyRunning { .. }) => Some("peerup status".into()),
            Self::Metrics(_) => Some("choose another telemetry.metrics.listen_address".into()),
            Self::Exhausted(_) | Self::Prefix(_) => Some("choose a larger vpn.cidr".into()),
            Self::Range(_)
            | Self::NotText { .. }
            | Self::Token(_)
            | Self::Privileges(_)
            | Self::Swarm(_)
            | Self::Listen(_)
            | Self::Bind(_)
            | Self::Data(_)
            | Self::DataThread
            | Self::Runtime(_)
            | Self::Port(_)
            | Self::Signals(_) => None,
        }
    }

    /// The exit code of a command that fails this way (DESIGN §6).
    pub fn exit_code(&self) -> u8 {
        self.kind().exit_code()
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked(_) | Self::Range(peerup_netcfg::RangeError::Conflict(_)) => ErrorKind::Conflict,
            Self::Bind(peerup_control::BindError::AlreadyRunning { .. }) => ErrorKind::Conflict,
            _ => ErrorKind::Failure,
        }
    }
}

impl From<DaemonError> for ApiError {
    fn from(error: DaemonError) -> Self {
        let api = ApiError::new(error.kind(), describe(&error));
        match error.hint() {
            Some(hint) => api.with_hint(hint),
            None => api,
        }
    }
}

/// An error with its causes on one line.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
