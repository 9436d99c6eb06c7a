//! The files of a node, all beside its configuration: read with their permissions checked, written atomically.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
};

use peerup_config::{NodeConfig, PeerAddr, StatePaths, edit};
use peerup_membership::Membership;
use peerup_node::Member;
use peerup_service::files::{PrivateFileError, read_private, write_private_atomic};
use peerup_trust::{authorized_keys::AuthorizedKeys, identity};
use peerup_types::{DnsLabel, Keypair, Multiaddr, PeerId, Protocol};

use crate::error::DaemonError;

/// Generous for an identity file, whose true length is fixed.
const KEY_LIMIT: u64 = 4096;
const TEXT_LIMIT: u64 = 1 << 20;
const KEYS_HEADER: &str = "# One peer ID per line: <peer-id> [key=value ...] [# comment]\n";

pub struct Files {
    pub config_file: PathBuf,
    pub state: StatePaths,
    pub config: NodeConfig,
}

impl Files {
    pub fn load(config_file: &Path, runtime_dir: Option<&Path>) -> Result<Self, DaemonError> {
        let config_file = std::path::absolute(config_file).unwrap_or_else(|_| config_file.to_owned());
        let state = StatePaths::beside(&config_file, runtime_dir);
        let config = parse_config(&config_file)?;
        Ok(Self { config_file, state, config })
    }

    /// Reads the configuration again; on an error the old one stays.
    pub fn reload(&mut self) -> Result<(), DaemonError> {
        self.config = parse_config(&self.config_file)?;
        Ok(())
    }

    /// The identity, made at its first use.
    pub fn identity(&self) -> Result<Keypair, DaemonError> {
        let path = &self.config.identity.key_file;
        let invalid = |source| DaemonError::Identity { path: path.clone(), source };
        match read_private(path, KEY_LIMIT) {
            Ok(bytes) => identity::decode(&bytes).map_err(invalid),
            Err(error) if error.is_missing() => {
                let keypair = Keypair::generate_ed25519();
                let encoded = identity::encode(&keypair).map_err(invalid)?;
                write_private_atomic(path, &encoded)?;
                Ok(keypair)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// `authorized_keys`; a missing file authorizes nobody.
    pub fn keys(&self) -> Result<AuthorizedKeys, DaemonError> {
        let path = &self.config.security.authorized_keys_file;
        let text = read_text(path, KEYS_HEADER)?;
        AuthorizedKeys::parse(&text).map_err(|source| DaemonError::Keys { path: path.clone(), source })
    }

    pub fn write_keys(&self, keys: &AuthorizedKeys) -> Result<(), DaemonError> {
        Ok(write_private_atomic(&self.config.security.authorized_keys_file, keys.to_text().as_bytes())?)
    }

    pub fn membership(&self, keypair: Keypair) -> Result<Membership, DaemonError> {
        let network = self.config.discovery.network.clone();
        let prefix = self.config.vpn.cidr;
        let path = &self.state.peers;
        match read_private(path, TEXT_LIMIT) {
            Ok(bytes) => Membership::from_yaml(&String::from_utf8_lossy(&bytes), keypair, network, prefix)
                .map_err(|source| DaemonError::Peers { path: path.clone(), source }),
            Err(error) if error.is_missing() => Ok(Membership::new(keypair, network, prefix)?),
            Err(error) => Err(error.into()),
        }
    }

    pub fn write_membership(&self, membership: &Membership) -> Result<(), DaemonError> {
        Ok(write_private_atomic(&self.state.peers, membership.to_yaml().as_bytes())?)
    }

    /// Adds what pairing learned to the configuration: a name for the peer, and relays.
    pub fn learn(
        &mut self,
        name: Option<(&DnsLabel, PeerId)>,
        relays: &[PeerAddr],
    ) -> Result<(), DaemonError> {
        let path = self.config_file.clone();
        let before = read_text(&path, "")?;
        let failed = |source| DaemonError::Edit { path: path.clone(), source };
        let mut text = before.clone();
        if let Some((name, peer)) = name {
            text = edited(edit::set_name(&text, name, peer).map_err(failed)?, text);
        }
        for relay in relays {
            text = edited(edit::add_relay(&text, relay).map_err(failed)?, text);
        }
        if text != before {
            write_private_atomic(&path, text.as_bytes())?;
            self.reload()?;
        }
        Ok(())
    }

    /// The configured listen addresses with port 0 replaced by a port that is picked once and kept, so that NAT
    /// mappings and firewall rules last.
    pub fn listen_addresses(&self) -> Result<Vec<Multiaddr>, DaemonError> {
        let configured = &self.config.network.listen_addresses;
        if !configured.iter().any(|address| address.iter().any(|part| is_port_zero(&part))) {
            return Ok(configured.clone());
        }
        let kept = read_private(&self.state.listen_port, 16).ok();
        let kept = kept.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse::<u16>().ok());
        let port = match kept.filter(|port| *port > 0 && is_free(*port)) {
            Some(port) => port,
            None => {
                let port = pick_port().map_err(DaemonError::Port)?;
                write_private_atomic(&self.state.listen_port, format!("{port}\n").as_bytes())?;
                port
            }
        };
        Ok(configured.iter().map(|address| with_port(address, port)).collect())
    }
}

/// The members that `keys` admits at `unix_now`.
pub fn members(keys: &AuthorizedKeys, unix_now: u64) -> BTreeMap<PeerId, Member> {
    keys.entries()
        .filter(|entry| keys.is_authorized(&entry.peer(), unix_now))
        .map(|entry| (entry.peer(), Member { pinned: entry.ip() }))
        .collect()
}

fn edited(edit: edit::Edited, before: String) -> String {
    match edit {
        edit::Edited::Changed(text) => text,
        edit::Edited::Unchanged => before,
    }
}

fn parse_config(path: &Path) -> Result<NodeConfig, DaemonError> {
    let bytes = read_private(path, TEXT_LIMIT)?;
    let base = path.parent().unwrap_or(Path::new("."));
    NodeConfig::parse(&String::from_utf8_lossy(&bytes), base)
        .map_err(|source| DaemonError::Config { path: path.to_owned(), source })
}

fn read_text(path: &Path, missing: &str) -> Result<String, PrivateFileError> {
    match read_private(path, TEXT_LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.is_missing() => Ok(missing.to_owned()),
        Err(error) => Err(error),
    }
}

/// A port that is free for UDP and TCP alike, chosen by the kernel.
fn pick_port() -> std::io::Result<u16> {
    for _ in 0..16 {
        let port = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port();
        if is_free(port) {
            return Ok(port);
        }
    }
    Err(std::io::ErrorKind::AddrInUse.into())
}

fn is_free(port: u16) -> bool {
    let any = (Ipv4Addr::UNSPECIFIED, port);
    UdpSocket::bind(any).is_ok() && TcpListener::bind(any).is_ok()
}

fn is_port_zero(part: &Protocol<'_>) -> bool {
    matches!(part, Protocol::Udp(0) | Protocol::Tcp(0))
}

fn with_port(address: &Multiaddr, port: u16) -> Multiaddr {
    address
        .iter()
        .map(|part| match part {
            Protocol::Udp(0) => Protocol::Udp(port),
            Protocol::Tcp(0) => Protocol::Tcp(port),
            other => other,
        })
        .collect()
}
