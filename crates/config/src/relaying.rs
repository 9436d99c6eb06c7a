//! `network.relay_*`: relaying for peers.

use crate::{
    error::{ConfigError, Excerpt, Problem},
    resolved::Resolved,
    section::Section,
    value::{self, format_size_limit},
};

/// What this node carries for its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relaying {
    pub service: RelayService,
    pub max_reservations: u32,
    pub max_circuits: u32,
    /// Bytes per second, all circuits and both directions together; `None` is unlimited.
    pub max_rate: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayService {
    /// Where an address of this machine is known to be reachable.
    #[default]
    Auto,
    On,
    Off,
}

/// More members than a group of friends has, each with a place for every transport and family.
const RESERVATIONS: u32 = 128;
/// Every pair of sixteen machines behind NATs.
const CIRCUITS: u32 = 128;
/// The uplink of a good line at home, and less than a tenth of what one core relays.
const RATE: u64 = 16 << 20;

impl RelayService {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "on" | "true" | "yes" => Ok(Self::On),
            "off" | "false" | "no" => Ok(Self::Off),
            _ => Err(Problem::RelayService { found: Excerpt::new(text) }),
        }
    }
}

impl Relaying {
    pub(crate) fn read(network: &Section<'_>) -> Result<Self, ConfigError> {
        let count = |key, default: u32| -> Result<u32, ConfigError> {
            let value = network.value(key, value::integer(1, 65_535))?;
            Ok(value.map_or(default, |n| n as u32))
        };
        Ok(Self {
            service: network.value("relay_service", RelayService::parse)?.unwrap_or_default(),
            max_reservations: count("relay_reservations", RESERVATIONS)?,
            max_circuits: count("relay_circuits", CIRCUITS)?,
            max_rate: network.value("relay_rate", value::size_limit)?.unwrap_or(Some(RATE)),
        })
    }

    pub(crate) fn resolved(&self) -> [(&'static str, Resolved); 4] {
        [
            ("relay_service", Resolved::text(self.service.as_str())),
            ("relay_reservations", u64::from(self.max_reservations).into()),
            ("relay_circuits", u64::from(self.max_circuits).into()),
            ("relay_rate", Resolved::text(format_size_limit(self.max_rate))),
        ]
    }
}
