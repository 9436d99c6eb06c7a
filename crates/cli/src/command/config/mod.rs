//! `peerup config` and `peerup relay config`: is the file right, what does it amount to, and changes to it that
//! cannot lock anybody out.

mod change;
mod edit;
mod probation;
mod show;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use peerup_config::{NodeConfig, RelayConfig, Resolved, effect};
use peerup_control::{Client, ClientError, Runtime};
use peerup_service::files::ConfigStore;
use serde_json::json;

use super::{Context, block_on};
use crate::{
    args::Config,
    failure::{Exit, Failure},
    lockout::guard,
    place::{directory, in_file, read_identity, read_text, validate_keys},
};

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Node,
    Relay,
}

/// One configuration. It need not be valid: a wrong one is what `set`, `edit` and `rollback` are for.
struct Target<'c> {
    context: &'c Context,
    owner: Owner,
    file: PathBuf,
}

/// What a text says, as far as these commands care.
struct Parsed {
    resolved: Resolved,
    key_file: PathBuf,
    keys_file: PathBuf,
    /// A node's whole configuration.
    node: Option<Box<NodeConfig>>,
}

pub fn run(context: &Context, command: Config) -> Result<Exit, Failure> {
    let file = context.place.node_file()?;
    dispatch(&Target { context, owner: Owner::Node, file }, command)
}

/// `peerup down --confirm`: the interface goes, and comes back unless that is confirmed.
pub fn down_for(context: &Context, timeout: Duration) -> Result<Exit, Failure> {
    let file = context.place.node_file()?;
    probation::down(&Target { context, owner: Owner::Node, file }, timeout)
}

pub fn run_relay(context: &Context, command: Config) -> Result<Exit, Failure> {
    let file = context.place.relay_file()?;
    dispatch(&Target { context, owner: Owner::Relay, file }, command)
}

fn dispatch(target: &Target<'_>, command: Config) -> Result<Exit, Failure> {
    match command {
        Config::Validate(args) => validate(target, args.json),
        Config::Show(args) => show::run(target, &args),
        Config::Set { key, value, probation } => change::set(target, &key, &value, probation.confirm),
        Config::Unset { key, probation } => change::unset(target, &key, probation.confirm),
        Config::Edit(probation) => edit::run(target, probation.confirm),
        Config::Apply { file, confirm_timeout } => probation::apply(target, &file, confirm_timeout),
        Config::Confirm => probation::confirm(target),
        Config::Rollback => probation::rollback(target),
    }
}

/// The file, and the files that it names, as far as they exist.
fn validate(target: &Target<'_>, json: bool) -> Result<Exit, Failure> {
    let outcome = check(target);
    if json {
        let (error, hint) = match &outcome {
            Ok(()) => (None, None),
            Err(failure) => (Some(failure.message()), failure.hint_text()),
        };
        let report = json!({"file": target.file, "valid": outcome.is_ok(), "error": error, "hint": hint});
        target.context.terminal.json(&report)?;
        return Ok(outcome.map_or_else(|failure| failure.exit, |()| Exit::Ok));
    }
    outcome?;
    target.context.terminal.line(format_args!("OK: {} is valid", target.file.display()))?;
    Ok(Exit::Ok)
}

fn check(target: &Target<'_>) -> Result<(), Failure> {
    let parsed = target.parse(&target.read()?)?;
    read_identity(&parsed.key_file)?;
    validate_keys(&parsed.keys_file)
}

impl Target<'_> {
    fn read(&self) -> Result<String, Failure> {
        read_text(&self.file)
    }

    fn parse(&self, text: &str) -> Result<Parsed, Failure> {
        self.parse_from(text, &self.file)
    }

    /// `text` as this configuration, where it comes from another file: paths in it still lead from here.
    fn parse_from(&self, text: &str, source: &Path) -> Result<Parsed, Failure> {
        let base = directory(&self.file);
        match self.owner {
            Owner::Node => {
                let config = NodeConfig::parse(text, base).map_err(|error| in_file(source, error))?;
                Ok(Parsed {
                    resolved: config.resolved(),
                    key_file: config.identity.key_file.clone(),
                    keys_file: config.security.authorized_keys_file.clone(),
                    node: Some(Box::new(config)),
                })
            }
            Owner::Relay => {
                let config = RelayConfig::parse(text, base).map_err(|error| in_file(source, error))?;
                Ok(Parsed {
                    resolved: config.resolved(),
                    node: None,
                    key_file: config.identity.key_file,
                    keys_file: config.security.authorized_keys_file,
                })
            }
        }
    }

    /// Asks before a change that can cut the session it is typed in, or refuses it where nobody can answer. A
    /// configuration that cannot be read now has nobody on it.
    fn guard(&self, before: &str, after: &Parsed, confirm: Option<Duration>) -> Result<(), Failure> {
        let Ok(Parsed { resolved, node: Some(node), .. }) = self.parse(before) else { return Ok(()) };
        match effect::cutting(&resolved, &after.resolved).as_slice() {
            [] => Ok(()),
            keys => {
                let what = format!("changing {}", keys.join(", "));
                guard(&self.context.terminal, &node, &what, confirm)
            }
        }
    }

    fn store(&self) -> ConfigStore {
        ConfigStore::beside(&self.file)
    }

    /// `peerup config` or `peerup relay config`.
    fn command(&self) -> &'static str {
        match self.owner {
            Owner::Node => "peerup config",
            Owner::Relay => "peerup relay config",
        }
    }

    /// Lets the process that uses the file read it again; `false` where none is known to. A relay server watches its
    /// file, so there is nobody to tell.
    fn tell(&self) -> Result<bool, Failure> {
        if self.owner == Owner::Relay {
            return Ok(true);
        }
        let state = self.context.place.state(&self.file);
        block_on(async {
            match Client::connect(&state.socket, &state.cookie).await {
                Ok(client) => Ok(client.reload().await.map(|()| true)?),
                Err(ClientError::NotRunning { .. }) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Says which of the changed keys wait for a restart, when somebody runs who could be restarted.
    fn note_waiting(&self, before: Option<&Resolved>, after: &Resolved, told: bool) -> Result<(), Failure> {
        let (table, how) = match self.owner {
            Owner::Node => (effect::NODE, "`peerup down` and `peerup up`, or a restart of its service"),
            Owner::Relay => (effect::RELAY, "a restart of the relay server"),
        };
        let waiting = before.map(|before| effect::waiting(table, before, after)).unwrap_or_default();
        if !told || waiting.is_empty() {
            return Ok(());
        }
        self.context.terminal.note(format_args!("{} in force after {how}", are(&waiting)))
    }
}

fn are(keys: &[String]) -> String {
    match keys {
        [key] => format!("{key} is"),
        keys => format!("{} are", keys.join(", ")),
    }
}

/// For a file beside the configuration.
fn beside(file: &Path, what: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().display();
    let extension = file.extension().map(|e| format!(".{}", e.display())).unwrap_or_default();
    file.with_file_name(format!(".{stem}.{what}{extension}"))
}
