//! Changes to a configuration by commands: the user's text stays, edits that meet are made one after another, and
//! nothing is written that the daemon would refuse.

use std::path::Path;

use peerup_config::{
    MAX_TEXT, NodeConfig,
    commit::{CommitError, State},
    edit::{EditError, Edited},
};
use peerup_control::{Client, ClientError, Runtime};
use peerup_service::files::{ConfigStore, EditFileError, edit_private};

use crate::{
    command::block_on,
    failure::{Exit, Failure},
    place::{NodeFiles, directory, in_file},
};

/// Changes the configuration of a node and lets a running daemon read it. Returns whether the file changed.
///
/// `change` gets the text as it is at that moment, which may be newer than `node`, and what it says; it is
/// made of the functions in [`peerup_config::edit`]:
///
/// ```ignore
/// edit_node(&node, |text, _| Ok(edit::set(text, &["services", "ssh"], &service)?))?;
/// ```
///
/// Nobody else edits the file meanwhile. A result that is not a valid configuration is refused, and the file stays.
pub fn edit_node(
    node: &NodeFiles,
    change: impl FnOnce(&str, &NodeConfig) -> Result<Edited, Failure>,
) -> Result<bool, Failure> {
    refuse_on_probation(&node.file)?;
    let changed = edit_file(&node.file, |text| {
        let parse =
            |text| NodeConfig::parse(text, directory(&node.file)).map_err(|error| in_file(&node.file, error));
        let edited = change(text, &parse(text)?)?;
        if let Edited::Changed(after) = &edited {
            parse(after)?;
        }
        Ok(edited)
    })?;
    if changed {
        tell_daemon(node)?;
    }
    Ok(changed)
}

/// What is changed now would be lost when the change on probation is taken back.
fn refuse_on_probation(file: &Path) -> Result<(), Failure> {
    let state = ConfigStore::beside(file).settle(peerup_clock::since_epoch());
    match state.map_err(|error| Failure::of(&error).or_hint(error.hint()))? {
        State::Pending { .. } => Err(Failure::of(&CommitError::AlreadyPending)
            .exit(Exit::Conflict)
            .or_hint(CommitError::AlreadyPending.hint())),
        State::Settled | State::Expired => Ok(()),
    }
}

/// The same for any file; what the new text says is for `change` to check.
pub fn edit_file(file: &Path, change: impl FnOnce(&str) -> Result<Edited, Failure>) -> Result<bool, Failure> {
    let text = |edited| match edited {
        Edited::Changed(text) => Some(text),
        Edited::Unchanged => None,
    };
    edit_private(file, MAX_TEXT as u64, None, |before| change(before).map(text)).map_err(failed)
}

pub fn failed(error: EditFileError<Failure>) -> Failure {
    match error {
        EditFileError::Change(failure) => failure,
        EditFileError::Lock { source, .. } => source.into(),
        EditFileError::Read(error) => error.into(),
        EditFileError::NotText { path } => {
            Failure::new(format!("{}: this is not UTF-8 text", path.display()))
        }
        EditFileError::Write(error) => error.into(),
    }
}

/// Lets a running daemon read its files again.
pub fn tell_daemon(node: &NodeFiles) -> Result<(), Failure> {
    block_on(async {
        match Client::connect(&node.state.socket, &node.state.cookie).await {
            Ok(client) => Ok(client.reload().await?),
            Err(ClientError::NotRunning { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    })
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        Self::of(&error).or_hint(error.hint())
    }
}
