//! Sections that node and relay share.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use crate::{
    VERSION,
    error::{ConfigError, Problem},
    resolved::Resolved,
    section::Section,
    value,
};

/// `identity:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub key_file: PathBuf,
}

/// `security:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    pub authorized_keys_file: PathBuf,
    /// Off, anybody who knows the peer ID may connect.
    pub enable_connection_gating: bool,
}

/// `telemetry:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    pub metrics: Metrics,
    pub audit: Audit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    pub enabled: bool,
    pub listen_address: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    pub enabled: bool,
}

/// A missing version is version 1, as in the Go original.
pub fn check_version(root: &Section<'_>) -> Result<(), ConfigError> {
    let found = root.value("version", value::integer(1, u32::MAX.into()))?.unwrap_or(1) as u32;
    if found > VERSION {
        return Err(root.problem("version", Problem::VersionTooNew { found, newest: VERSION }));
    }
    Ok(())
}

impl Identity {
    pub(crate) fn read(root: &Section<'_>, base_dir: &Path, default: &str) -> Result<Self, ConfigError> {
        let section = root.section("identity", &["key_file"])?;
        let key_file = section.value("key_file", value::path(base_dir))?;
        Ok(Self { key_file: key_file.unwrap_or_else(|| base_dir.join(default)) })
    }

    pub(crate) fn resolved(&self) -> Resolved {
        Resolved::section([("key_file", Resolved::path(&self.key_file))])
    }
}

impl Security {
    pub(crate) fn read(root: &Section<'_>, base_dir: &Path, default: &str) -> Result<Self, ConfigError> {
        let section = root.section("security", &["authorized_keys_file", "enable_connection_gating"])?;
        let file = section.value("authorized_keys_file", value::path(base_dir))?;
        Ok(Self {
            authorized_keys_file: file.unwrap_or_else(|| base_dir.join(default)),
            enable_connection_gating: section
                .value("enable_connection_gating", value::boolean)?
                .unwrap_or(true),
        })
    }

    pub(crate) fn resolved(&self) -> Resolved {
        Resolved::section([
            ("authorized_keys_file", Resolved::path(&self.authorized_keys_file)),
            ("enable_connection_gating", self.enable_connection_gating.into()),
        ])
    }
}

impl Telemetry {
    pub(crate) fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        let section = root.section("telemetry", &["metrics", "audit"])?;
        let metrics = section.section("metrics", &["enabled", "listen_address"])?;
        let audit = section.section("audit", &["enabled"])?;
        Ok(Self {
            metrics: Metrics {
                enabled: metrics.value("enabled", value::boolean)?.unwrap_or(false),
                listen_address: metrics
                    .value("listen_address", value::socket_addr)?
                    .unwrap_or(loopback(9091)),
            },
            audit: Audit { enabled: audit.value("enabled", value::boolean)?.unwrap_or(false) },
        })
    }

    pub(crate) fn resolved(&self) -> Resolved {
        let metrics = Resolved::section([
            ("enabled", self.metrics.enabled.into()),
            ("listen_address", Resolved::text(self.metrics.listen_address)),
        ]);
        let audit = Resolved::section([("enabled", self.audit.enabled.into())]);
        Resolved::section([("metrics", metrics), ("audit", audit)])
    }
}

pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
