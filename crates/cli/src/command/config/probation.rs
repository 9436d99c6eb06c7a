//! `config apply`, `confirm` and `rollback`: changes that are taken back by themselves.
//!
//! The files are the whole protocol ([`peerup_config::commit`]): these commands change them, a running daemon or
//! relay follows, and without one the next start does.

use std::{fs::File, io::Read, path::Path, time::Duration};

use peerup_config::{
    MAX_TEXT,
    commit::{CommitError, State},
    edit::{self, Edited},
};
use peerup_service::files::{ConfigStore, StoreError};

use super::{
    Target,
    change::{refuse_on_probation, store_failed},
};
use crate::{
    failure::{Exit, Failure},
    lockout::overlay_session,
    render::units,
};

pub fn apply(target: &Target<'_>, file: &Path, timeout: Duration) -> Result<Exit, Failure> {
    let file = target.context.place.resolve(file);
    let new = read_new(&file)?;
    let parsed = target.parse_from(&new, &file)?;
    refuse_on_probation(target)?;
    let before = target.read()?;
    if before == new {
        target.context.terminal.note("nothing to change: the configuration says so already")?;
        return Ok(Exit::Ok);
    }
    let terminal = &target.context.terminal;
    if parsed.node.is_some_and(|config| overlay_session(&config).is_some()) {
        terminal.note("this connection runs through the overlay: if it goes, it is back after that time")?;
    }
    put_in_force(target, &new, timeout)?;
    terminal.note(format_args!("keep it with `{} confirm`", target.command()))?;
    Ok(Exit::Ok)
}

/// `down --confirm`: `vpn.enabled` goes off on probation, which outlives a crash or a reboot.
pub fn down(target: &Target<'_>, timeout: Duration) -> Result<Exit, Failure> {
    refuse_on_probation(target)?;
    let off = edit::set(&target.read()?, &["vpn", "enabled"], &false.into())?;
    let Edited::Changed(new) = off else {
        target.context.terminal.note("the interface is off already: vpn.enabled is false")?;
        return Ok(Exit::Ok);
    };
    target.parse(&new)?;
    put_in_force(target, &new, timeout)?;
    target.context.terminal.note("`peerup config confirm` keeps vpn.enabled off for good")?;
    Ok(Exit::Ok)
}

pub fn put_in_force(target: &Target<'_>, new: &str, timeout: Duration) -> Result<(), Failure> {
    let failed = |error| store_failed(target, error);
    target.store().apply(new, peerup_clock::since_epoch(), timeout).map_err(failed)?;
    let told = match target.tell() {
        Ok(told) => told,
        Err(failure) => {
            // Nobody wants to wait for the deadline of a change that does not even load.
            target.store().rollback().map_err(failed)?;
            let _ = target.tell();
            return Err(failure.while_doing("not applied, the former configuration stays"));
        }
    };
    let terminal = &target.context.terminal;
    let who = if told { "in force" } else { "nothing runs; in force with the next start" };
    terminal.note(format_args!("{who}, and taken back in {}", units::duration(timeout.as_secs())))
}

pub fn confirm(target: &Target<'_>) -> Result<Exit, Failure> {
    let failed = |error| store_failed(target, error);
    if target.store().settle(peerup_clock::since_epoch()).map_err(failed)? == State::Expired {
        target.tell()?;
        return Err(Failure::new(
            "too late: the change was not confirmed in time, the former configuration is back",
        ));
    }
    let keys = keys_store(target);
    let kept = keys.as_ref().is_some_and(|keys| keys.confirm().is_ok());
    match target.store().confirm() {
        Err(StoreError::Refused(CommitError::NothingPending)) if kept => {
            target.tell()?;
            target.context.terminal.note("confirmed: authorized_keys stays as it is")?;
            return Ok(Exit::Ok);
        }
        outcome => outcome.map_err(failed)?,
    }
    target.tell()?;
    target
        .context
        .terminal
        .note("confirmed; `config rollback` comes back to this configuration from now on")?;
    Ok(Exit::Ok)
}

/// The store of `authorized_keys`, where a change of it is on probation in time.
fn keys_store(target: &Target<'_>) -> Option<ConfigStore> {
    let parsed = target.read().and_then(|text| target.parse(&text)).ok()?;
    let store = ConfigStore::beside(&parsed.keys_file);
    let state = store.settle(peerup_clock::since_epoch()).ok()?;
    matches!(state, State::Pending { .. }).then_some(store)
}

pub fn rollback(target: &Target<'_>) -> Result<Exit, Failure> {
    let failed = |error| store_failed(target, error);
    let terminal = &target.context.terminal;
    let store = target.store();
    let before = target.read().and_then(|text| target.parse(&text)).map(|parsed| parsed.resolved).ok();
    let was = store.settle(peerup_clock::since_epoch()).map_err(failed)?;
    if was == State::Expired {
        target.tell()?;
        terminal.note("the change was not confirmed in time: the former configuration is back already")?;
        return Ok(Exit::Ok);
    }
    store.rollback().map_err(failed)?;
    let told = target.tell()?;
    if matches!(was, State::Pending { .. }) {
        terminal.note("taken back: the former configuration is in force")?;
        return Ok(Exit::Ok);
    }
    terminal.note("the last configuration that worked is back")?;
    terminal.note(format_args!("what it replaced is in {}", store.paths().rolled_back.display()))?;
    let after = target.parse(&target.read()?)?;
    target.note_waiting(before.as_ref(), &after.resolved, told)?;
    Ok(Exit::Ok)
}

/// Anybody may have written the new file: it holds no secret.
fn read_new(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::of(&error)
            .while_doing(format_args!("cannot read {}", file.display()))
            .hint("name a file with the whole new configuration")
    };
    let mut text = String::new();
    File::open(file).map_err(failed)?.take(MAX_TEXT as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}
