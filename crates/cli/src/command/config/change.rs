//! `config set` and `config unset`: one value, in the user's own text.

use peerup_config::{
    commit::{CommitError, State},
    edit::{self, Edited},
};
use peerup_service::files::StoreError;

use super::Target;
use crate::{
    edit::edit_file,
    failure::{Exit, Failure},
};

pub fn set(target: &Target<'_>, key: &str, value: &str) -> Result<Exit, Failure> {
    let path = edit::path(key).ok_or_else(|| no_key(key))?;
    let value = edit::parse_value(value);
    change(target, |text| Ok(edit::set(text, &path, &value)?), format_args!("{key} is set"))
}

pub fn unset(target: &Target<'_>, key: &str) -> Result<Exit, Failure> {
    let path = edit::path(key).ok_or_else(|| no_key(key))?;
    change(target, |text| Ok(edit::remove(text, &path)?), format_args!("{key} is removed"))
}

fn no_key(key: &str) -> Failure {
    Failure::usage(format!("`{key}` is not a key")).hint("write it as vpn.mtu or relay.addresses[0]")
}

fn change(
    target: &Target<'_>,
    change: impl FnOnce(&str) -> Result<Edited, Failure>,
    done: std::fmt::Arguments<'_>,
) -> Result<Exit, Failure> {
    refuse_on_probation(target)?;
    let (mut before, mut after) = (None, None);
    let changed = edit_file(&target.file, |text| {
        let edited = change(text)?;
        if let Edited::Changed(text_after) = &edited {
            before = target.parse(text).ok();
            after = Some(target.parse(text_after)?);
        }
        Ok(edited)
    })?;
    let Some(after) = after.filter(|_| changed) else {
        target.context.terminal.note("nothing to change: the file says so already")?;
        return Ok(Exit::Ok);
    };
    let told = target.tell()?;
    target.context.terminal.note(done)?;
    target.note_waiting(before.map(|before| before.resolved).as_ref(), &after.resolved, told)?;
    Ok(Exit::Ok)
}

/// What is changed now would be lost when the change on probation is taken back.
pub fn refuse_on_probation(target: &Target<'_>) -> Result<(), Failure> {
    match target.store().settle(peerup_clock::since_epoch()).map_err(|error| store_failed(target, error))? {
        State::Pending { .. } => Err(store_failed(target, CommitError::AlreadyPending.into())),
        State::Settled | State::Expired => Ok(()),
    }
}

pub fn store_failed(target: &Target<'_>, error: StoreError) -> Failure {
    let failure = Failure::of(&error);
    let command = target.command();
    match &error {
        StoreError::Refused(CommitError::AlreadyPending) => failure
            .exit(Exit::Conflict)
            .hint(format!("`{command} confirm` keeps it, `{command} rollback` takes it back")),
        StoreError::Refused(CommitError::NothingPending) => {
            failure.hint(format!("`{command} apply FILE` makes a change that has to be confirmed"))
        }
        StoreError::Refused(CommitError::IsLastGood) => failure.hint(format!("`{command} show` prints it")),
        StoreError::Refused(CommitError::NoArchive | CommitError::NoConfig)
        | StoreError::Lock(_)
        | StoreError::Read(_)
        | StoreError::NotText { .. }
        | StoreError::Write(_) => failure.or_hint(error.hint()),
    }
}
