//! Where a configuration is looked for, in order.

use std::path::{Path, PathBuf};

/// What the search depends on, gathered by the caller.
#[derive(Debug, Clone, Copy)]
pub struct SearchPlaces<'a> {
    /// `--config`
    pub explicit: Option<&'a Path>,
    /// `PEERUP_CONFIG`
    pub variable: Option<&'a Path>,
    pub working_dir: &'a Path,
    /// Of the user peerup acts for: under sudo, the one who typed it.
    pub home: Option<&'a Path>,
}

/// The outcome is a rule rather than a file: whether a file exists is for the caller to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// The user named this file; that it is missing is an error.
    Only(PathBuf),
    /// The first that exists.
    FirstOf(Vec<PathBuf>),
}

impl SearchPlaces<'_> {
    /// The node's configuration: `--config`, else `PEERUP_CONFIG`, else `./peerup.yaml`, the user's, the
    /// system's.
    pub fn node(&self) -> Search {
        let variable = self.variable.filter(|path| !path.as_os_str().is_empty());
        if let Some(named) = self.explicit.or(variable) {
            return Search::Only(self.working_dir.join(named));
        }
        let local = self.working_dir.join("peerup.yaml");
        let system = PathBuf::from("/etc/peerup/config.yaml");
        Search::FirstOf([Some(local), self.user_config(), Some(system)].into_iter().flatten().collect())
    }

    /// Where `init` writes: `~/.config/peerup/config.yaml`.
    pub fn user_config(&self) -> Option<PathBuf> {
        self.home.map(|home| home.join(".config/peerup/config.yaml"))
    }
}

/// The relay's configuration: `--config`, else `relay-server.yaml` in the working directory.
pub fn relay_search(explicit: Option<&Path>, working_dir: &Path) -> Search {
    match explicit {
        Some(named) => Search::Only(working_dir.join(named)),
        None => Search::FirstOf(vec![working_dir.join("relay-server.yaml")]),
    }
}

impl Search {
    pub fn candidates(&self) -> &[PathBuf] {
        match self {
            Self::Only(path) => std::slice::from_ref(path),
            Self::FirstOf(paths) => paths,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places<'a>(explicit: Option<&'a str>, variable: Option<&'a str>) -> SearchPlaces<'a> {
        SearchPlaces {
            explicit: explicit.map(Path::new),
            variable: variable.map(Path::new),
            working_dir: Path::new("/w"),
            home: Some(Path::new("/home/a")),
        }
    }

    #[test]
    fn without_a_named_file_the_nearest_one_is_used() {
        let expected = ["/w/peerup.yaml", "/home/a/.config/peerup/config.yaml", "/etc/peerup/config.yaml"];
        let found = places(None, Some("")).node();
        assert_eq!(found, Search::FirstOf(expected.map(PathBuf::from).to_vec()));
        let homeless = SearchPlaces { home: None, ..places(None, None) };
        assert_eq!(homeless.node().candidates().len(), 2);
    }

    #[test]
    fn a_named_file_is_the_only_candidate_and_the_flag_beats_the_variable() {
        assert_eq!(places(Some("a.yaml"), Some("/b.yaml")).node(), Search::Only("/w/a.yaml".into()));
        assert_eq!(places(None, Some("/b.yaml")).node(), Search::Only("/b.yaml".into()));
        assert_eq!(relay_search(None, Path::new("/r")).candidates(), [PathBuf::from("/r/relay-server.yaml")]);
        assert_eq!(relay_search(Some(Path::new("x")), Path::new("/r")), Search::Only("/r/x".into()));
    }
}
