//! The files that live beside a configuration, so that several nodes share one machine by having a directory
//! each.

use std::path::{Path, PathBuf};

/// Longest path of a unix socket: `sun_path` has 108 bytes and ends in a NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// Files of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatePaths {
    pub dir: PathBuf,
    /// The daemon's API.
    pub socket: PathBuf,
    /// What a client shows to use it.
    pub cookie: PathBuf,
    /// Held by the running daemon.
    pub lock: PathBuf,
    /// Of a daemon that `up` started.
    pub log: PathBuf,
    /// Members of the network and their addresses.
    pub peers: PathBuf,
    /// Where peers were reached last.
    pub addresses: PathBuf,
    /// What a reader of the metrics shows when they are served beyond loopback.
    pub metrics_token: PathBuf,
    /// Groups of relays that this node has joined.
    pub groups: PathBuf,
    /// Host changes still to be undone.
    pub netcfg_journal: PathBuf,
    /// The underlay port, picked once so that NAT mappings and firewall rules last.
    pub listen_port: PathBuf,
}

/// Files of a relay server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayStatePaths {
    pub dir: PathBuf,
    pub lock: PathBuf,
    /// Groups whose pairing codes are open.
    pub pairing: PathBuf,
    /// As a node's.
    pub metrics_token: PathBuf,
    /// Snapshots that `relay setup` takes before it replaces files.
    pub backups: PathBuf,
}

impl StatePaths {
    /// `config_file` should be absolute: a socket path that has to move is named after it. Without a
    /// `runtime_dir` a path that is too long stays, and binding it says so.
    pub fn beside(config_file: &Path, runtime_dir: Option<&Path>) -> Self {
        let dir = directory(config_file);
        let at = |name: &str| dir.join(name);
        Self {
            socket: socket(&dir, runtime_dir),
            cookie: at(".daemon-cookie"),
            lock: at(".peerup.lock"),
            log: at("peerup.log"),
            peers: at("peers.yaml"),
            addresses: at("addresses.json"),
            metrics_token: at(".metrics-token"),
            groups: at(".pairing-groups"),
            netcfg_journal: at(".netcfg-journal.json"),
            listen_port: at(".listen-port"),
            dir,
        }
    }

    /// The directory of the socket, when it had to move out of the node's own.
    pub fn socket_dir_elsewhere(&self) -> Option<&Path> {
        self.socket.parent().filter(|parent| *parent != self.dir)
    }
}

impl RelayStatePaths {
    pub fn beside(config_file: &Path) -> Self {
        let dir = directory(config_file);
        let at = |name: &str| dir.join(name);
        Self {
            lock: at(".relay-server.lock"),
            pairing: at(".relay-pairing"),
            metrics_token: at(".metrics-token"),
            backups: at("backups"),
            dir,
        }
    }
}

fn directory(config_file: &Path) -> PathBuf {
    match config_file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

fn socket(dir: &Path, runtime_dir: Option<&Path>) -> PathBuf {
    let beside = dir.join("peerup.sock");
    match runtime_dir {
        Some(runtime) if beside.as_os_str().len() > MAX_SOCKET_PATH => {
            runtime.join(format!("peerup-{:016x}.sock", fnv1a(dir.as_os_str().as_encoded_bytes())))
        }
        Some(_) | None => beside,
    }
}

/// FNV-1a, 64 bits. Daemon and client must agree also across releases, which std's hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_lives_beside_the_config() {
        let paths =
            StatePaths::beside(Path::new("/home/a/.config/peerup/config.yaml"), Some(Path::new("/run/a")));
        assert_eq!(paths.socket, Path::new("/home/a/.config/peerup/peerup.sock"));
        assert_eq!(paths.listen_port, Path::new("/home/a/.config/peerup/.listen-port"));
        assert_eq!(StatePaths::beside(Path::new("peerup.yaml"), None).log, Path::new("./peerup.log"));
        let relay = RelayStatePaths::beside(Path::new("/srv/relay-server.yaml"));
        assert_eq!(relay.pairing, Path::new("/srv/.relay-pairing"));
    }

    #[test]
    fn a_socket_path_of_108_bytes_moves_to_the_runtime_directory_under_a_stable_name() {
        let run = Some(Path::new("/run/user/1000"));
        let config =
            |len: usize| PathBuf::from(format!("/{}/config.yaml", "d".repeat(len - "//peerup.sock".len())));
        let fits = StatePaths::beside(&config(107), run).socket;
        assert_eq!(
            (fits.as_os_str().len(), fits.file_name().unwrap().to_str().unwrap()),
            (107, "peerup.sock")
        );
        let moved = StatePaths::beside(&config(108), run).socket;
        assert_eq!(moved, StatePaths::beside(&config(108), run).socket);
        assert_ne!(moved, StatePaths::beside(&config(109), run).socket);
        let elsewhere =
            |len| StatePaths::beside(&config(len), run).socket_dir_elsewhere().map(Path::to_owned);
        assert_eq!((elsewhere(107), elsewhere(108)), (None, Some("/run/user/1000".into())));
        assert!(moved.starts_with("/run/user/1000") && moved.as_os_str().len() < 60, "{moved:?}");
        assert_eq!(StatePaths::beside(&config(108), None).socket.as_os_str().len(), 108);
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv1a(b""), 0xcbf29ce484222325);
        assert_eq!(fnv1a(b"foobar"), 0x85944171f73967e8);
    }
}
