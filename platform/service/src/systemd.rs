//! Installing and asking after a unit, through `systemctl`: its command line is systemd's stable interface for this.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Where an administrator's units lie (systemd.unit(5)).
const UNITS: &str = "etc/systemd/system";
/// There while systemd runs the machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// The service manager of this machine, or the files of another one's root.
#[derive(Debug, Clone)]
pub struct Systemd {
    root: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("cannot run systemctl")]
    Start(#[source] io::Error),
    #[error("`systemctl {words}` failed: {said}")]
    Refused { words: String, said: String },
}

impl SystemdError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Write { source, .. } | Self::Remove { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some("run it with sudo".into())
            }
            Self::Start(_) => Some("`--print` shows the unit for another service manager".into()),
            Self::Refused { .. } => Some("journalctl -xe tells more".into()),
            Self::Write { .. } | Self::Remove { .. } => None,
        }
    }
}

impl Systemd {
    /// `root` is `/`, or the root of an image that is being made.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub fn unit_file(&self, unit: &str) -> PathBuf {
        self.root.join(UNITS).join(unit)
    }

    /// Whether systemd runs this machine and the units are this machine's.
    pub fn is_running(&self) -> bool {
        self.root == Path::new("/") && Path::new(BOOTED).is_dir()
    }

    /// Writes the unit, whole or not at all. Readable by everybody: it holds no secret.
    pub fn write(&self, unit: &str, text: &str) -> Result<PathBuf, SystemdError> {
        let path = self.unit_file(unit);
        let fail = |source| SystemdError::Write { path: path.clone(), source };
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(fail)?;
        let draft = parent.join(format!(".{unit}.new"));
        fs::write(&draft, text).map_err(fail)?;
        fs::rename(&draft, &path).map_err(fail)?;
        Ok(path)
    }

    /// Whether there was one.
    pub fn remove(&self, unit: &str) -> Result<bool, SystemdError> {
        let path = self.unit_file(unit);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(SystemdError::Remove { path, source }),
        }
    }

    /// `systemctl WORDS…`, which must succeed.
    pub fn ctl(&self, words: &[&str]) -> Result<String, SystemdError> {
        let output = Command::new("systemctl").args(words).output().map_err(SystemdError::Start)?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(said(&output.stdout)),
            false => Err(SystemdError::Refused { words: words.join(" "), said: said(&output.stderr) }),
        }
    }

    /// `systemctl show` of one property; empty where systemd does not run.
    pub fn property(&self, unit: &str, property: &str) -> Result<String, SystemdError> {
        if !self.is_running() {
            return Ok(String::new());
        }
        self.ctl(&["show", unit, &format!("--property={property}"), "--value"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_written_replaced_and_removed_under_another_root() {
        let root = tempfile::tempdir().unwrap();
        let systemd = Systemd::new(root.path());
        assert!(!systemd.is_running());
        let path = systemd.write("x.service", "one").unwrap();
        systemd.write("x.service", "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft stays");
        assert!(systemd.remove("x.service").unwrap());
        assert!(!systemd.remove("x.service").unwrap());
    }
}
