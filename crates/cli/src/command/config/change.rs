//! `config set` and `config unset`: one value, in the user's own text.

use std::time::Duration;

use peerup_config::{
    commit::{CommitError, State},
    edit::{self, Edited},
};
use peerup_service::files::StoreError;

use super::{Target, probation::put_in_force};
use crate::{
    edit::edit_file,
    failure::{Exit, Failure},
};

pub fn set(target: &Target<'_>, key: &str, value: &str, confirm: Option<Duration>) -> Result<Exit, Failure> {
    let path = edit::path(key).ok_or_else(|| no_key(key))?;
    let value = edit::parse_value(value);
    let done =
        Words { done: format!("{key} is set"), unchanged: format!("nothing to change: {key} is so already") };
    change(target, |text| Ok(edit::set(text, &path, &value)?), confirm, &done)
}

pub fn unset(target: &Target<'_>, key: &str, confirm: Option<Duration>) -> Result<Exit, Failure> {
    let path = edit::path(key).ok_or_else(|| no_key(key))?;
    let done = Words {
        done: format!("{key} is removed"),
        unchanged: format!("nothing to change: the file has no {key}"),
    };
    change(target, |text| Ok(edit::remove(text, &path)?), confirm, &done)
}

/// What to say when it is done, and when there was nothing to do.
struct Words {
    done: String,
    unchanged: String,
}

fn no_key(key: &str) -> Failure {
    Failure::usage(format!("`{key}` is not a key")).hint("write it as vpn.mtu or relay.addresses[0]")
}

fn change(
    target: &Target<'_>,
    change: impl Fn(&str) -> Result<Edited, Failure>,
    confirm: Option<Duration>,
    words: &Words,
) -> Result<Exit, Failure> {
    refuse_on_probation(target)?;
    // Nobody else's edit waits for an answer: what is asked about is tried out first.
    let now = target.read()?;
    if let Edited::Changed(text) = change(&now)? {
        target.guard(&now, &target.parse(&text)?, confirm)?;
        if let Some(timeout) = confirm {
            return on_probation(target, &text, timeout, &words.done);
        }
    }
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
        target.context.terminal.note(&words.unchanged)?;
        return Ok(Exit::Ok);
    };
    let told = target.tell()?;
    target.context.terminal.note(&words.done)?;
    target.note_waiting(before.map(|before| before.resolved).as_ref(), &after.resolved, told)?;
    Ok(Exit::Ok)
}

pub fn on_probation(target: &Target<'_>, text: &str, timeout: Duration, done: &str) -> Result<Exit, Failure> {
    put_in_force(target, text, timeout)?;
    target.context.terminal.note(done)?;
    target.context.terminal.note(format_args!("keep it with `{} confirm`", target.command()))?;
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
        | StoreError::NotKept(_)
        | StoreError::Write(_) => failure.or_hint(error.hint()),
    }
}
