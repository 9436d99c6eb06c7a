//! The files of a node, all beside its configuration: read with their permissions checked, written atomically.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use peerup_config::{NodeConfig, PeerAddr, Service, StatePaths, edit};
use peerup_membership::Membership;
use peerup_node::Member;
use peerup_service::files::{
    ConfigStore, EditFileError, PrivateFileError, check_directory_of, edit_private, read_private,
    write_private_atomic,
};
use peerup_services::Exposed;
use peerup_trust::{authorized_keys::AuthorizedKeys, identity};
use peerup_types::{DnsLabel, Keypair, Multiaddr, PeerId, Protocol};

use crate::{error::DaemonError, port};

/// A port has five digits at most.
const PORT_LIMIT: u64 = 16;
/// Generous for an identity file, whose true length is fixed.
const KEY_LIMIT: u64 = 4096;
const TEXT_LIMIT: u64 = 1 << 20;
const KEYS_HEADER: &str = "# One peer ID per line: <peer-id> [key=value ...] [# comment]\n";

pub struct Files {
    pub config_file: PathBuf,
    pub state: StatePaths,
    pub config: NodeConfig,
    /// What `config` was read from.
    pub text: String,
}

impl Files {
    pub fn load(config_file: &Path, runtime_dir: Option<&Path>) -> Result<Self, DaemonError> {
        let config_file = std::path::absolute(config_file).unwrap_or_else(|_| config_file.to_owned());
        let state = StatePaths::beside(&config_file, runtime_dir);
        let (text, config) = parse_config(&config_file)?;
        Ok(Self { config_file, state, config, text })
    }

    /// Reads the configuration again; on an error the old one stays.
    pub fn reload(&mut self) -> Result<(), DaemonError> {
        (self.text, self.config) = parse_config(&self.config_file)?;
        Ok(())
    }

    /// The identity. A fresh node gets one; where others know this node already, a new key in place of the lost one
    /// would look like a stranger to all of them.
    pub fn identity(&self) -> Result<Keypair, DaemonError> {
        let path = &self.config.identity.key_file;
        for trusted in [path, &self.config_file, &self.config.security.authorized_keys_file] {
            check_directory_of(trusted)?;
        }
        let invalid = |source| DaemonError::Identity { path: path.clone(), source };
        match read_private(path, KEY_LIMIT) {
            Ok(bytes) => identity::decode(&bytes).map_err(invalid),
            Err(error) if error.is_missing() && self.is_fresh()? => {
                let keypair = Keypair::generate_ed25519();
                let encoded = identity::encode(&keypair).map_err(invalid)?;
                write_private_atomic(path, &encoded)?;
                Ok(keypair)
            }
            Err(error) if error.is_missing() => Err(DaemonError::IdentityLost { path: path.clone() }),
            Err(error) => Err(error.into()),
        }
    }

    /// Nobody is authorized and no address is claimed.
    fn is_fresh(&self) -> Result<bool, DaemonError> {
        Ok(!self.state.peers.exists() && self.keys()?.entries().next().is_none())
    }

    /// `authorized_keys`; a missing file authorizes nobody.
    pub fn keys(&self) -> Result<AuthorizedKeys, DaemonError> {
        let path = &self.config.security.authorized_keys_file;
        let text = read_text(path, KEYS_HEADER)?;
        AuthorizedKeys::parse(&text).map_err(|source| DaemonError::Keys { path: path.clone(), source })
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

    /// Adds what pairing learned to the configuration: a name for the peer, and relays. They stay when a change on
    /// probation is taken back.
    pub fn learn(
        &mut self,
        name: Option<(&DnsLabel, PeerId)>,
        relays: &[PeerAddr],
    ) -> Result<(), DaemonError> {
        let path = self.config_file.clone();
        let changed = ConfigStore::beside(&path).amend(|before| {
            let mut text = before.to_owned();
            if let Some((name, peer)) = name {
                text = edit::set_name(&text, name, peer)?.text_or(text);
            }
            for relay in relays {
                text = edit::add_relay(&text, relay)?.text_or(text);
            }
            Ok((text != before).then_some(text))
        });
        if changed.map_err(|error| edit_failed(error, |source| DaemonError::Edit { path, source }))? {
            self.reload()?;
        }
        Ok(())
    }

    /// Changes `authorized_keys`, alone with it: a change made by hand a moment ago is not lost. Returns the result.
    pub fn edit_keys<E: From<DaemonError>>(
        &self,
        change: impl FnOnce(&mut AuthorizedKeys) -> Result<(), E>,
    ) -> Result<AuthorizedKeys, E> {
        let path = &self.config.security.authorized_keys_file;
        let mut edited = None;
        edit_private(path, TEXT_LIMIT, Some(KEYS_HEADER), |text| {
            let mut keys = AuthorizedKeys::parse(text)
                .map_err(|source| DaemonError::Keys { path: path.clone(), source })?;
            change(&mut keys)?;
            let text = keys.to_text();
            edited = Some(keys);
            Ok::<_, E>(Some(text))
        })
        .map_err(|error| edit_failed(error, |error| error))?;
        Ok(edited.expect("a written file has been edited"))
    }

    /// Adds a service to the configuration, or changes it there.
    pub fn add_service(&mut self, name: &DnsLabel, service: &Exposed) -> Result<(), DaemonError> {
        let path = self.config_file.clone();
        let Exposed { local_address, allowed_peers } = service;
        let (local_address, allowed_peers) = (local_address.clone(), allowed_peers.clone());
        let service = Service { enabled: true, local_address, protocol: None, allowed_peers };
        let changed = ConfigStore::beside(&path).amend(|text| match service.set(text, name)? {
            edit::Edited::Changed(text) => Ok(Some(text)),
            edit::Edited::Unchanged => Ok(None),
        });
        if changed.map_err(|error| edit_failed(error, |source| DaemonError::Edit { path, source }))? {
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
        let port = self.listen_port()?;
        Ok(configured.iter().map(|address| with_port(address, port)).collect())
    }

    /// A port that another program has at this moment may be free again at the next start, so it stays the kept one.
    fn listen_port(&self) -> Result<u16, DaemonError> {
        let pick = || port::pick(&mut rand::rng()).map_err(DaemonError::Port);
        let Some(kept) = self.kept_port()? else {
            let port = pick()?;
            write_private_atomic(&self.state.listen_port, format!("{port}\n").as_bytes())?;
            return Ok(port);
        };
        if port::is_free(kept) {
            return Ok(kept);
        }
        let temporary = pick()?;
        tracing::warn!(
            kept,
            temporary,
            "another program has the listen port; a temporary one takes its place"
        );
        Ok(temporary)
    }

    fn kept_port(&self) -> Result<Option<u16>, DaemonError> {
        match read_private(&self.state.listen_port, PORT_LIMIT) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().parse().ok().filter(|port| *port > 0)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The identity of the node that `config_file` describes.
pub fn identity(config_file: &Path) -> Result<Keypair, DaemonError> {
    Files::load(config_file, None)?.identity()
}

/// The members that `keys` admits at `unix_now`.
pub fn members(keys: &AuthorizedKeys, unix_now: u64) -> BTreeMap<PeerId, Member> {
    keys.entries()
        .filter(|entry| keys.is_authorized(&entry.peer(), unix_now))
        .map(|entry| (entry.peer(), Member { pinned: entry.ip() }))
        .collect()
}

fn edit_failed<C, E: From<DaemonError>>(error: EditFileError<C>, changed: impl FnOnce(C) -> E) -> E {
    match error {
        EditFileError::Lock { path, source } => DaemonError::EditLocked { path, source }.into(),
        EditFileError::Read(error) => DaemonError::File(error).into(),
        EditFileError::NotText { path } => DaemonError::NotText { path }.into(),
        EditFileError::Write(error) => DaemonError::Write(error).into(),
        EditFileError::Change(error) => changed(error),
    }
}

fn parse_config(path: &Path) -> Result<(String, NodeConfig), DaemonError> {
    let bytes = read_private(path, TEXT_LIMIT)?;
    let base = path.parent().unwrap_or(Path::new("."));
    let text = String::from_utf8(bytes).map_err(|_| DaemonError::NotText { path: path.to_owned() })?;
    let config = NodeConfig::parse(&text, base)
        .map_err(|source| DaemonError::Config { path: path.to_owned(), source })?;
    Ok((text, config))
}

fn read_text(path: &Path, missing: &str) -> Result<String, PrivateFileError> {
    match read_private(path, TEXT_LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.is_missing() => Ok(missing.to_owned()),
        Err(error) => Err(error),
    }
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

#[cfg(test)]
mod tests {
    use std::{fs, net::UdpSocket};

    use tempfile::TempDir;

    use super::*;

    const PEER: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx\n";

    #[test]
    fn a_fresh_node_gets_an_identity_and_keeps_it() {
        let (_dir, files) = node();
        files.edit_keys::<DaemonError>(|_| Ok(())).unwrap();
        let first = files.identity().unwrap().public();
        assert_eq!(files.identity().unwrap().public(), first);
        assert_eq!(identity(&files.config_file).unwrap().public(), first);
    }

    #[test]
    fn a_lost_identity_is_not_replaced_where_others_know_it() {
        for (name, content) in [("authorized_keys", PEER), ("peers.yaml", "")] {
            let (dir, files) = node();
            write_private_atomic(&dir.path().join(name), content.as_bytes()).unwrap();
            let error = files.identity().unwrap_err();
            assert!(matches!(error, DaemonError::IdentityLost { .. }), "{name}: {error}");
            assert!(error.hint().unwrap().contains("restore"), "{error}");
            assert!(!files.config.identity.key_file.exists());
        }
    }

    #[test]
    fn a_name_learned_while_a_change_is_on_probation_outlives_that_change() {
        let (dir, mut files) = node();
        let store = ConfigStore::beside(&files.config_file);
        let now = std::time::Duration::from_secs(1_800_000_000);
        let minute = std::time::Duration::from_secs(60);
        store.apply("version: 1\nvpn: {mtu: 1400}\n", now, minute).unwrap();
        let peer: PeerId = PEER.trim().parse().unwrap();
        files.learn(Some((&"nas".parse().unwrap(), peer)), &[]).unwrap();
        assert_eq!((files.config.vpn.mtu, files.config.names.len()), (1400, 1));
        store.settle(now + minute).unwrap();
        files.reload().unwrap();
        assert_eq!(files.config.names.get(&"nas".parse().unwrap()), Some(&peer));
        assert_ne!(files.config.vpn.mtu, 1400);
        drop(dir);
    }

    #[test]
    fn the_listen_port_is_kept_also_when_another_program_has_it_for_a_while() {
        let (_dir, files) = node();
        let kept = listens_on(&files);
        assert_eq!(listens_on(&files), kept);
        let other = UdpSocket::bind(("0.0.0.0", kept)).unwrap();
        assert_ne!(listens_on(&files), kept);
        assert_eq!(fs::read_to_string(&files.state.listen_port).unwrap(), format!("{kept}\n"));
        drop(other);
        assert_eq!(listens_on(&files), kept);
    }

    #[test]
    fn a_listen_port_file_that_makes_no_sense_is_replaced() {
        for content in ["", "0", "port", "70000"] {
            let (_dir, files) = node();
            write_private_atomic(&files.state.listen_port, content.as_bytes()).unwrap();
            let port = listens_on(&files);
            assert_eq!(fs::read_to_string(&files.state.listen_port).unwrap(), format!("{port}\n"));
        }
    }

    #[test]
    fn configured_ports_are_left_alone() {
        let (dir, _) = node();
        let config = dir.path().join("config.yaml");
        write_private_atomic(&config, b"network: {listen_addresses: [/ip4/0.0.0.0/tcp/4001]}\n").unwrap();
        let files = Files::load(&config, None).unwrap();
        assert_eq!(files.listen_addresses().unwrap(), files.config.network.listen_addresses);
        assert!(!files.state.listen_port.exists());
    }

    fn node() -> (TempDir, Files) {
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("config.yaml");
        write_private_atomic(&config, b"version: 1\n").unwrap();
        let files = Files::load(&config, None).unwrap();
        (dir, files)
    }

    fn listens_on(files: &Files) -> u16 {
        let addresses = files.listen_addresses().unwrap();
        let ports: Vec<u16> = addresses
            .iter()
            .flat_map(|address| address.iter())
            .filter_map(|part| match part {
                Protocol::Udp(port) | Protocol::Tcp(port) => Some(port),
                _ => None,
            })
            .collect();
        assert!(ports.len() == 4 && ports.iter().all(|port| *port == ports[0]), "{addresses:?}");
        ports[0]
    }
}
