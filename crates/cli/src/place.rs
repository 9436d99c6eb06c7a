//! Where a node or a relay keeps its files: found by the search order, read with the checks that files of their kind
//! get. Under sudo everything belongs to the person who typed the command.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
};

use peerup_config::{MAX_TEXT, NodeConfig, RelayConfig, Search, SearchPlaces, StatePaths, relay_search};
use peerup_control::Client;
use peerup_service::{
    InvokingUser,
    files::{lock_edits, read_private, write_private_atomic},
};
use peerup_trust::{
    authorized_keys::{self, AuthorizedKeys},
    identity,
};
use peerup_types::Keypair;

use crate::failure::{Exit, Failure};

/// What the search for files depends on.
#[derive(Debug)]
pub struct Place {
    explicit: Option<PathBuf>,
    variable: Option<PathBuf>,
    working_dir: PathBuf,
    user: Option<InvokingUser>,
}

/// A node's configuration as it stands on disk.
#[derive(Debug)]
pub struct NodeFiles {
    pub file: PathBuf,
    pub config: NodeConfig,
    pub state: StatePaths,
}

/// A relay server's configuration as it stands on disk.
#[derive(Debug)]
pub struct RelayFiles {
    pub file: PathBuf,
    pub config: RelayConfig,
}

impl Place {
    pub fn new(explicit: Option<PathBuf>) -> Result<Self, Failure> {
        let working_dir = env::current_dir()
            .map_err(|error| Failure::of(&error).while_doing("cannot find the working directory"))?;
        let variable = env::var_os("PEERUP_CONFIG").map(PathBuf::from);
        // A user without a home can still name a file.
        Ok(Self { explicit, variable, working_dir, user: InvokingUser::current().ok() })
    }

    /// The file of an existing node.
    pub fn node_file(&self) -> Result<PathBuf, Failure> {
        existing(&self.node_search()).map_err(|failure| failure.hint("create one with `peerup init`"))
    }

    /// The file of an existing node, or where a new one belongs: exactly where it was asked for.
    pub fn node_file_or_new(&self) -> Result<PathBuf, Failure> {
        let search = self.node_search();
        if let Ok(found) = existing(&search) {
            return Ok(found);
        }
        match search {
            Search::Only(named) => Ok(named),
            Search::FirstOf(_) => self.default_file(),
        }
    }

    /// Where `init` writes when nothing else is said.
    pub fn new_node_file(&self) -> Result<PathBuf, Failure> {
        match self.node_search() {
            Search::Only(named) => Ok(named),
            Search::FirstOf(_) => self.default_file(),
        }
    }

    pub fn load_node(&self) -> Result<NodeFiles, Failure> {
        self.read_node(self.node_file()?)
    }

    pub fn read_node(&self, file: PathBuf) -> Result<NodeFiles, Failure> {
        let text = read_text(&file)?;
        let config = NodeConfig::parse(&text, directory(&file)).map_err(|error| in_file(&file, error))?;
        let state = self.state(&file);
        Ok(NodeFiles { file, config, state })
    }

    pub fn state(&self, file: &Path) -> StatePaths {
        StatePaths::beside(file, self.user.as_ref().map(InvokingUser::runtime_dir))
    }

    /// The daemon of the node that the search finds.
    pub async fn daemon(&self) -> Result<Client, Failure> {
        let state = self.state(&self.node_file()?);
        Ok(Client::connect(&state.socket, &state.cookie).await?)
    }

    pub fn relay_file(&self) -> Result<PathBuf, Failure> {
        existing(&relay_search(self.explicit.as_deref(), &self.working_dir))
            .map_err(|failure| failure.hint("create one with `peerup relay setup`"))
    }

    /// Where `relay setup` writes.
    pub fn new_relay_file(&self, dir: Option<&Path>) -> PathBuf {
        match (dir, &self.explicit) {
            (Some(dir), _) => self.working_dir.join(dir).join("relay-server.yaml"),
            (None, Some(named)) => self.working_dir.join(named),
            (None, None) => self.working_dir.join("relay-server.yaml"),
        }
    }

    pub fn load_relay(&self) -> Result<RelayFiles, Failure> {
        let file = self.relay_file()?;
        let text = read_text(&file)?;
        let config = RelayConfig::parse(&text, directory(&file)).map_err(|error| in_file(&file, error))?;
        Ok(RelayFiles { file, config })
    }

    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.working_dir.join(path)
    }

    fn node_search(&self) -> Search {
        self.search_places().node()
    }

    fn default_file(&self) -> Result<PathBuf, Failure> {
        let homeless = || Failure::new("there is no home directory to keep a configuration in");
        self.search_places().user_config().ok_or_else(|| homeless().hint("name a file with --config"))
    }

    fn search_places(&self) -> SearchPlaces<'_> {
        SearchPlaces {
            explicit: self.explicit.as_deref(),
            variable: self.variable.as_deref(),
            working_dir: &self.working_dir,
            home: self.user.as_ref().map(|user| user.home_dir.as_path()),
        }
    }
}

fn existing(search: &Search) -> Result<PathBuf, Failure> {
    let candidates = search.candidates();
    if let Some(found) = candidates.iter().find(|path| path.exists()) {
        return Ok(found.clone());
    }
    let looked: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
    Err(Failure::new(format!("config file not found: {}", looked.join(", "))))
}

/// The directory that relative paths in `file` start from.
pub fn directory(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub fn in_file(file: &Path, error: peerup_config::ConfigError) -> Failure {
    Failure::from(error).while_doing(file.display())
}

pub fn read_text(file: &Path) -> Result<String, Failure> {
    let bytes = read_private(file, MAX_TEXT as u64)?;
    String::from_utf8(bytes).map_err(|_| Failure::new(format!("{}: this is not UTF-8 text", file.display())))
}

/// The key pair in `file`; created when there is none.
pub fn load_or_create_identity(file: &Path) -> Result<Keypair, Failure> {
    match read_identity(file)? {
        Some(keypair) => Ok(keypair),
        None => create_identity(file),
    }
}

/// `None` when there is no such file.
pub fn read_identity(file: &Path) -> Result<Option<Keypair>, Failure> {
    // A little more than a key, so that a longer file is called damaged rather than cut.
    match read_private(file, 4096) {
        Ok(bytes) => identity::decode(&bytes)
            .map(Some)
            .map_err(|error| Failure::of(&error).while_doing(file.display())),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn create_identity(file: &Path) -> Result<Keypair, Failure> {
    let keypair = Keypair::generate_ed25519();
    let bytes = identity::encode(&keypair).expect("a generated Ed25519 key has an encoding");
    write_private_atomic(file, &bytes)?;
    Ok(keypair)
}

/// An `authorized_keys` as text; a missing one is empty.
pub fn read_keys_text(file: &Path) -> Result<String, Failure> {
    let attempt = || format!("cannot read {}", file.display());
    let opened = match fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(Failure::of(&error).while_doing(attempt())),
    };
    let mut text = String::new();
    let limit = authorized_keys::MAX_BYTES as u64 + 1;
    opened
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|error| Failure::of(&error).while_doing(attempt()))?;
    Ok(text)
}

/// As a daemon reads it, which refuses one that others can read; a missing one is empty.
pub fn read_private_keys_text(file: &Path) -> Result<String, Failure> {
    read_private_or_empty(file, authorized_keys::MAX_BYTES as u64)
}

/// A private file of ours; a missing one is empty.
pub fn read_private_or_empty(file: &Path, limit: u64) -> Result<String, Failure> {
    match read_private(file, limit) {
        Ok(bytes) => String::from_utf8(bytes)
            .map_err(|_| Failure::new(format!("{}: this is not UTF-8 text", file.display()))),
        Err(error) if error.is_missing() => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a daemon would take the file.
pub fn validate_keys(file: &Path) -> Result<(), Failure> {
    parse_keys_text(file, &read_private_keys_text(file)?).map(drop)
}

fn parse_keys_text(file: &Path, text: &str) -> Result<AuthorizedKeys, Failure> {
    AuthorizedKeys::parse(text).map_err(|error| {
        Failure::new(format!("{}: {error}", file.display()))
            .hint("`peerup auth validate` lists every bad line")
    })
}

/// Reads, edits and replaces an `authorized_keys`, alone with it; every line that is not edited stays as it is.
pub fn edit_keys<E: Into<Failure>>(
    file: &Path,
    edit: impl FnOnce(&mut AuthorizedKeys) -> Result<(), E>,
) -> Result<(), Failure> {
    let _alone = lock_edits(file)?;
    let mut keys = parse_keys_text(file, &read_keys_text(file)?)?;
    edit(&mut keys).map_err(Into::into)?;
    Ok(write_private_atomic(file, keys.to_text().as_bytes())?)
}

/// A conflict with a file that is already there.
pub fn already_exists(file: &Path) -> Failure {
    Failure::new(format!("{} already exists", file.display())).exit(Exit::Conflict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_that_is_missing_is_where_a_new_node_goes_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("missing/node.yaml");
        let place = Place::new(Some(named.clone())).unwrap();
        assert_eq!(place.node_file_or_new().unwrap(), named);
        assert!(place.node_file().is_err());
    }

    #[test]
    fn an_identity_is_created_once_and_a_damaged_one_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("identity.key");
        let first = load_or_create_identity(&file).unwrap().public();
        assert_eq!(load_or_create_identity(&file).unwrap().public(), first);
        write_private_atomic(&file, b"short").unwrap();
        assert!(load_or_create_identity(&file).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"short");
    }
}
