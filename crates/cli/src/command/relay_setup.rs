//! `peerup relay setup`: the three files of a relay server. Files that are there are never lost: replacing them takes
//! a snapshot first.

use std::{
    fs,
    path::{Path, PathBuf},
};

use peerup_config::{RelayConfig, template::RelayTemplate};
use peerup_service::files::{create_private_dir, write_private_atomic};

use super::Context;
use crate::{
    failure::{Exit, Failure},
    place::{already_exists, directory, load_or_create_identity},
};

const KEYS_HEADER: &str = "\
# Who may use this relay: one peer ID per line, a comment after #.
";

/// Snapshots of one second get a number; more than this many in a second are a mistake.
const MAX_SAME_SECOND: u32 = 99;

pub fn run(
    context: &Context,
    dir: Option<&Path>,
    non_interactive: bool,
    fresh: bool,
) -> Result<Exit, Failure> {
    let files = Files::beside(context.place.new_relay_file(dir));
    create_private_dir(directory(&files.config))?;
    match (files.config.exists(), fresh, non_interactive) {
        (false, _, _) => {}
        (true, true, _) => files.start_afresh(context)?,
        (true, false, true) => {
            return Err(
                already_exists(&files.config).hint("--fresh replaces it and keeps a copy in backups/")
            );
        }
        (true, false, false) => files.choose(context)?,
    }
    files.complete(context)?;
    Ok(Exit::Ok)
}

struct Files {
    config: PathBuf,
    key: PathBuf,
    keys: PathBuf,
    backups: PathBuf,
}

impl Files {
    fn beside(config: PathBuf) -> Self {
        let dir = directory(&config);
        let [key, keys, backups] =
            ["relay_node.key", "relay_authorized_keys", "backups"].map(|name| dir.join(name));
        Self { config, key, keys, backups }
    }

    fn all(&self) -> [&PathBuf; 3] {
        [&self.config, &self.key, &self.keys]
    }

    fn choose(&self, context: &Context) -> Result<(), Failure> {
        let terminal = &context.terminal;
        terminal.line(format_args!("{} is there already.", self.config.display()))?;
        terminal.line("  1  keep everything")?;
        terminal.line("  2  start afresh (a copy goes to backups/)")?;
        terminal.line("  3  restore a copy")?;
        match terminal.ask("Choice [1]:")?.as_str() {
            "" | "1" => Ok(()),
            "2" => self.start_afresh(context),
            "3" => self.restore(context),
            other => Err(Failure::usage(format!("`{other}` is none of 1, 2 and 3"))),
        }
    }

    fn start_afresh(&self, context: &Context) -> Result<(), Failure> {
        let snapshot = self.snapshot()?;
        context.terminal.note(format_args!("copied to {}", snapshot.display()))?;
        self.all().into_iter().try_for_each(|file| remove(file))
    }

    fn restore(&self, context: &Context) -> Result<(), Failure> {
        let snapshots = self.snapshots()?;
        if snapshots.is_empty() {
            return Err(Failure::new("there is no copy to restore"));
        }
        for (number, snapshot) in snapshots.iter().enumerate() {
            context.terminal.line(format_args!("  {}  {}", number + 1, snapshot.display()))?;
        }
        let choice = context.terminal.ask("Copy [1]:")?;
        let index = if choice.is_empty() {
            Some(0)
        } else {
            choice.parse::<usize>().ok().and_then(|n| n.checked_sub(1))
        };
        let chosen = index
            .and_then(|index| snapshots.get(index))
            .ok_or_else(|| Failure::usage(format!("`{choice}` is no number of the list")))?;
        self.start_afresh(context)?;
        self.all().into_iter().try_for_each(|file| copy(&chosen.join(name(file)), file))
    }

    /// Copies what is there into a directory named after the time (UTC).
    fn snapshot(&self) -> Result<PathBuf, Failure> {
        create_private_dir(&self.backups)?;
        let dir = self.free_snapshot_name()?;
        create_private_dir(&dir)?;
        self.all().into_iter().try_for_each(|file| copy(file, &dir.join(name(file))))?;
        Ok(dir)
    }

    fn free_snapshot_name(&self) -> Result<PathBuf, Failure> {
        let time = peerup_clock::rfc3339(peerup_clock::unix()).replace('T', "_").replace([':', 'Z'], "");
        let numbered = (1..=MAX_SAME_SECOND).map(|number| format!("{time}_{number:02}"));
        std::iter::once(time.clone())
            .chain(numbered)
            .map(|name| self.backups.join(name))
            .find(|dir| !dir.exists())
            .ok_or_else(|| Failure::new(format!("too many copies in {}", self.backups.display())))
    }

    /// Newest first.
    fn snapshots(&self) -> Result<Vec<PathBuf>, Failure> {
        let Ok(entries) = fs::read_dir(&self.backups) else { return Ok(vec![]) };
        let mut dirs: Vec<_> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        dirs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(dirs)
    }

    /// Creates what is missing and says what comes next.
    fn complete(&self, context: &Context) -> Result<(), Failure> {
        if !self.config.exists() {
            write_private_atomic(&self.config, RelayTemplate::default().render().as_bytes())?;
        }
        let text = fs::read_to_string(&self.config)
            .map_err(|error| Failure::of(&error).while_doing(self.config.display()))?;
        let config = RelayConfig::parse(&text, directory(&self.config))
            .map_err(|error| Failure::from(error).while_doing(self.config.display()))?;
        let id = load_or_create_identity(&config.identity.key_file)?.public().to_peer_id();
        let keys = &config.security.authorized_keys_file;
        if !keys.exists() {
            write_private_atomic(keys, KEYS_HEADER.as_bytes())?;
        }
        let terminal = &context.terminal;
        terminal.line(format_args!("Peer ID:  {id}"))?;
        terminal.line(format_args!("Config:   {}", self.config.display()))?;
        terminal.note("\nNext:")?;
        terminal.note("  open TCP and UDP port 7777 in the firewall")?;
        terminal.note("  peerup relay serve              run it")?;
        terminal.note("  peerup relay info               print its address for `peerup init --relay`")?;
        terminal.note("  peerup relay authorize PEER_ID  let your first machine use it")
    }
}

fn name(file: &Path) -> &std::ffi::OsStr {
    file.file_name().expect("the relay's files have names")
}

/// Copies a file if it is there, private.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    match fs::read(from) {
        Ok(bytes) => Ok(write_private_atomic(to, &bytes)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::of(&error).while_doing(format_args!("cannot read {}", from.display()))),
    }
}

fn remove(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::of(&error).while_doing(format_args!("cannot remove {}", file.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_keeps_what_was_there_and_same_second_ones_get_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::beside(dir.path().join("relay-server.yaml"));
        fs::write(&files.config, "version: 1\n").unwrap();
        let (first, second) = (files.snapshot().unwrap(), files.snapshot().unwrap());
        assert_ne!(first, second);
        assert_eq!(fs::read_to_string(first.join("relay-server.yaml")).unwrap(), "version: 1\n");
        assert_eq!(files.snapshots().unwrap(), [second, first]);
    }
}
