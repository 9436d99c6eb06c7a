//! `socks:` a proxy for programs of this machine that cannot use the overlay's addresses themselves.

use std::net::SocketAddr;

use crate::{error::ConfigError, resolved::Resolved, section::Section, value};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Socks {
    /// `None`: only while `peerup socks` runs.
    pub listen: Option<SocketAddr>,
    /// Whether destinations outside the overlay are dialed too.
    pub allow_outside: bool,
}

impl Socks {
    pub(crate) fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        let section = root.section("socks", &["listen", "allow_outside"])?;
        Ok(Self {
            listen: section.value("listen", value::socket_addr)?,
            allow_outside: section.value("allow_outside", value::boolean)?.unwrap_or(false),
        })
    }

    pub(crate) fn resolved(&self) -> Resolved {
        Resolved::section([
            ("listen", Resolved::optional(self.listen)),
            ("allow_outside", self.allow_outside.into()),
        ])
    }
}
