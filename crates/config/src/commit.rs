//! Changes that have to be confirmed: decided here, carried out by whoever holds the files.
//!
//! A configuration applied for a while leaves three files: itself, a backup of its predecessor and a marker with the
//! deadline. Whoever finds a marker whose time is up (a running daemon, the next one to start, any command) puts
//! the backup back. So a machine that loses its network, its daemon or its power in between comes back with the
//! configuration that was in force before.
//!
//! Each operation is a list of [`Step`]s; every step is atomic, and a crash may come after any of them. The marker
//! is the switch: it is written before the configuration changes, and its removal is what confirms. A marker whose
//! backup equals the configuration stands for a change that never came, or has been taken back already.
//!
//! Only texts that were in force without a marker become the last good one.

use std::{
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Longest time that a change may stay unconfirmed. A clock that was set back must not stretch it for ever.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The files beside a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPaths {
    /// `.config.pending`: the marker.
    pub pending: PathBuf,
    /// `.config.pre-confirmed.yaml`: the backup.
    pub backup: PathBuf,
    /// `.config.last-good.yaml`
    pub last_good: PathBuf,
    /// `.config.rolled-back.yaml`: what the last rollback replaced.
    pub rolled_back: PathBuf,
}

/// What stands in the files; `None` for one that is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnDisk {
    pub config: Option<String>,
    pub pending: Option<String>,
    pub backup: Option<String>,
    pub last_good: Option<String>,
}

/// One atomic change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    WriteBackup(String),
    WritePending(String),
    WriteConfig(String),
    RemovePending,
    RemoveBackup,
    /// The backup becomes the configuration: a rename, which needs no space on a full disk.
    RestoreBackup,
    /// Makes this text the last good one.
    Archive(String),
    /// Keeps this text, which a rollback is about to replace.
    KeepRolledBack(String),
}

/// Where a configuration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In force until somebody changes it.
    Settled,
    /// In force for this long, unless confirmed.
    Pending { left: Duration },
    /// Not confirmed in time: the steps put the former one back.
    Expired,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    #[error("a change is waiting to be confirmed")]
    AlreadyPending,
    #[error("no change is waiting to be confirmed")]
    NothingPending,
    #[error("there is no last good configuration to go back to")]
    NoArchive,
    #[error("the configuration is the last good one already")]
    IsLastGood,
    #[error("there is no configuration")]
    NoConfig,
}

impl CommitError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::AlreadyPending => {
                Some("`peerup config confirm` keeps it, `peerup config rollback` takes it back")
            }
            Self::NoArchive => Some("one is kept when a daemon has run well with its configuration"),
            Self::NothingPending | Self::IsLastGood | Self::NoConfig => None,
        }
    }
}

/// The text of `.config.pending`.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    /// RFC 3339 with nanoseconds.
    deadline: String,
    /// File name of the backup.
    backup: String,
}

impl CommitPaths {
    /// `config.yaml` has `.config.pending` and so on; `relay-server.yaml` has `.relay-server.pending`.
    pub fn beside(config_file: &Path) -> Self {
        let stem = config_file.file_stem().unwrap_or_default().display();
        let extension = config_file.extension().map(|e| format!(".{}", e.display())).unwrap_or_default();
        let at = |name: String| config_file.with_file_name(name);
        Self {
            pending: at(format!(".{stem}.pending")),
            backup: at(format!(".{stem}.pre-confirmed{extension}")),
            last_good: at(format!(".{stem}.last-good{extension}")),
            rolled_back: at(format!(".{stem}.rolled-back{extension}")),
        }
    }

    fn backup_name(&self) -> String {
        self.backup.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Where the files stand at `now`, counted from the Unix epoch, and what has to be done about it.
pub fn settle(disk: &OnDisk, now: Duration) -> (State, Vec<Step>) {
    let Some(pending) = &disk.pending else {
        // What an interrupted change prepared, or an interrupted confirmation left.
        let left_over = disk.backup.iter().map(|_| Step::RemoveBackup).collect();
        return (State::Settled, left_over);
    };
    let Some(backup) = &disk.backup else {
        // It has been put back already, or there is nothing to go back to.
        return (State::Settled, vec![Step::RemovePending]);
    };
    if disk.config.as_ref() == Some(backup) {
        return (State::Settled, vec![Step::RemovePending, Step::RemoveBackup]);
    }
    // A marker that cannot be read counts as one whose time is up: going back is the safe side.
    match deadline(pending).and_then(|deadline| deadline.checked_sub(now)).filter(|left| !left.is_zero()) {
        Some(left) => (State::Pending { left: left.min(MAX_TIMEOUT) }, Vec::new()),
        None => (State::Expired, revert()),
    }
}

/// Puts `new` in force for `timeout`. The files have to be settled.
pub fn apply(
    disk: &OnDisk,
    paths: &CommitPaths,
    new: &str,
    (now, timeout): (Duration, Duration),
) -> Result<Vec<Step>, CommitError> {
    if disk.pending.is_some() {
        return Err(CommitError::AlreadyPending);
    }
    let current = disk.config.clone().ok_or(CommitError::NoConfig)?;
    let deadline = humantime::format_rfc3339_nanos(UNIX_EPOCH + now + timeout.min(MAX_TIMEOUT));
    let marker = Marker { deadline: deadline.to_string(), backup: paths.backup_name() };
    let marker = serde_json::to_string(&marker).expect("two texts have a JSON form");
    Ok(vec![Step::WriteBackup(current), Step::WritePending(marker + "\n"), Step::WriteConfig(new.to_owned())])
}

/// Keeps the change that is pending, as the last good configuration.
pub fn confirm(disk: &OnDisk) -> Result<Vec<Step>, CommitError> {
    if disk.pending.is_none() {
        return Err(CommitError::NothingPending);
    }
    let config = disk.config.clone().ok_or(CommitError::NoConfig)?;
    Ok(vec![Step::RemovePending, Step::Archive(config), Step::RemoveBackup])
}

/// Takes back the change that is pending; without one, goes back to the last good configuration.
pub fn rollback(disk: &OnDisk) -> Result<Vec<Step>, CommitError> {
    if disk.pending.is_some() && disk.backup.is_some() {
        return Ok(revert());
    }
    let last_good = disk.last_good.clone().ok_or(CommitError::NoArchive)?;
    if disk.config.as_ref() == Some(&last_good) {
        return Err(CommitError::IsLastGood);
    }
    let current = disk.config.iter().cloned().map(Step::KeepRolledBack);
    Ok(current.chain([Step::WriteConfig(last_good)]).collect())
}

/// `started_with` has proven itself: it becomes the last good configuration, unless it is on probation.
pub fn archive(disk: &OnDisk, started_with: &str) -> Vec<Step> {
    let on_probation = disk.pending.is_some();
    let known = disk.last_good.as_deref() == Some(started_with);
    if on_probation || known { Vec::new() } else { vec![Step::Archive(started_with.to_owned())] }
}

fn revert() -> Vec<Step> {
    vec![Step::RestoreBackup, Step::RemovePending]
}

/// Since the Unix epoch.
fn deadline(pending: &str) -> Option<Duration> {
    let marker: Marker = serde_json::from_str(pending).ok()?;
    humantime::parse_rfc3339_weak(&marker.deadline).ok()?.duration_since(UNIX_EPOCH).ok()
}

impl OnDisk {
    /// What a step does to the files.
    pub fn perform(&mut self, step: &Step) {
        match step {
            Step::WriteBackup(text) => self.backup = Some(text.clone()),
            Step::WritePending(text) => self.pending = Some(text.clone()),
            Step::WriteConfig(text) => self.config = Some(text.clone()),
            Step::RemovePending => self.pending = None,
            Step::RemoveBackup => self.backup = None,
            Step::RestoreBackup => self.config = self.backup.take().or(self.config.take()),
            Step::Archive(text) => self.last_good = Some(text.clone()),
            Step::KeepRolledBack(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const FIVE_MINUTES: Duration = Duration::from_secs(300);
    const LATER: Duration = Duration::from_secs(1_800_000_301);

    fn paths() -> CommitPaths {
        CommitPaths::beside(Path::new("/c/config.yaml"))
    }

    fn settled(config: &str) -> OnDisk {
        OnDisk { config: Some(config.into()), last_good: Some("good".into()), ..OnDisk::default() }
    }

    fn after(disk: &OnDisk, steps: &[Step]) -> OnDisk {
        let mut disk = disk.clone();
        steps.iter().for_each(|step| disk.perform(step));
        disk
    }

    fn apply_new(disk: &OnDisk) -> Vec<Step> {
        apply(disk, &paths(), "new", (NOW, FIVE_MINUTES)).unwrap()
    }

    fn pending() -> OnDisk {
        after(&settled("old"), &apply_new(&settled("old")))
    }

    /// Every state a crash during `steps` can leave, the last one being that of no crash.
    fn crashes(disk: &OnDisk, steps: &[Step]) -> Vec<OnDisk> {
        (0..=steps.len()).map(|done| after(disk, &steps[..done])).collect()
    }

    /// Starts again and again, each start cut off at every point, until nothing is left to do.
    fn recoveries(disk: &OnDisk, now: Duration) -> Vec<(State, OnDisk)> {
        let (state, steps) = settle(disk, now);
        let mut found = vec![(state, after(disk, &steps))];
        for crash in crashes(disk, &steps).into_iter().take(steps.len()) {
            let (again, steps) = settle(&crash, now);
            found.push((again, after(&crash, &steps)));
        }
        found
    }

    #[test]
    fn files_are_named_after_the_configuration() {
        let relay = CommitPaths::beside(Path::new("/r/relay-server.yaml"));
        assert_eq!(paths().pending, Path::new("/c/.config.pending"));
        assert_eq!(paths().backup, Path::new("/c/.config.pre-confirmed.yaml"));
        assert_eq!(relay.last_good, Path::new("/r/.relay-server.last-good.yaml"));
    }

    #[test]
    fn the_marker_has_the_form_of_the_original() {
        let disk = pending();
        let marker = disk.pending.unwrap();
        assert_eq!(
            marker,
            "{\"deadline\":\"2027-01-15T08:05:00.000000000Z\",\"backup\":\".config.pre-confirmed.yaml\"}\n"
        );
    }

    #[test]
    fn a_crash_while_applying_leaves_the_old_configuration_or_a_pending_new_one() {
        let old = settled("old");
        for crash in crashes(&old, &apply_new(&old)) {
            for (state, disk) in recoveries(&crash, NOW) {
                match state {
                    State::Settled => assert_eq!(disk, old),
                    State::Pending { left } => assert_eq!((disk, left), (pending(), FIVE_MINUTES)),
                    State::Expired => panic!("expired at once: {crash:?}"),
                }
            }
            for (_, disk) in recoveries(&crash, LATER) {
                assert_eq!(disk, old, "from {crash:?}");
            }
        }
    }

    #[test]
    fn a_crash_while_confirming_keeps_the_change_once_the_marker_is_gone() {
        let steps = confirm(&pending()).unwrap();
        for (done, crash) in crashes(&pending(), &steps).into_iter().enumerate() {
            for (state, disk) in recoveries(&crash, LATER) {
                match done {
                    0 => assert_eq!(
                        (disk.config.as_deref(), disk.last_good.as_deref()),
                        (Some("old"), Some("good"))
                    ),
                    _ => assert_eq!((state, disk.config.as_deref()), (State::Settled, Some("new"))),
                }
                assert_eq!((disk.pending, disk.backup), (None, None));
            }
        }
        assert_eq!(after(&pending(), &steps).last_good.as_deref(), Some("new"));
    }

    #[test]
    fn a_confirmed_change_is_left_alone_at_its_deadline() {
        let confirmed = after(&pending(), &confirm(&pending()).unwrap());
        assert_eq!(settle(&confirmed, LATER), (State::Settled, Vec::new()));
        assert_eq!(confirm(&confirmed), Err(CommitError::NothingPending));
    }

    #[test]
    fn a_crash_while_going_back_goes_back_at_the_next_start() {
        for steps in [settle(&pending(), LATER).1, rollback(&pending()).unwrap()] {
            for crash in crashes(&pending(), &steps) {
                for (_, disk) in recoveries(&crash, LATER) {
                    assert_eq!(disk, settled("old"));
                }
            }
        }
    }

    #[test]
    fn an_unconfirmed_configuration_never_becomes_the_last_good_one() {
        assert_eq!(archive(&pending(), "new"), []);
        let (_, steps) = settle(&pending(), LATER);
        assert_eq!(after(&pending(), &steps).last_good.as_deref(), Some("good"));
        assert_eq!(archive(&settled("old"), "old"), [Step::Archive("old".into())]);
        assert_eq!(archive(&settled("old"), "good"), []);
    }

    #[test]
    fn one_change_is_pending_at_a_time() {
        let refused = apply(&pending(), &paths(), "newer", (NOW, FIVE_MINUTES));
        assert_eq!(refused, Err(CommitError::AlreadyPending));
    }

    #[test]
    fn a_marker_that_cannot_be_read_or_lies_far_ahead_does_not_keep_a_change() {
        for damaged in ["", "{}", "{\"deadline\":\"soon\",\"backup\":\"x\"}"] {
            let disk = OnDisk { pending: Some(damaged.into()), ..pending() };
            let (state, steps) = settle(&disk, NOW);
            assert_eq!((state, after(&disk, &steps)), (State::Expired, settled("old")), "{damaged}");
        }
        let set_back = settle(&pending(), Duration::from_secs(60)).0;
        assert_eq!(set_back, State::Pending { left: MAX_TIMEOUT });
    }

    #[test]
    fn a_marker_without_a_way_back_is_dropped() {
        let disk = OnDisk { backup: None, ..pending() };
        let (state, steps) = settle(&disk, LATER);
        assert_eq!((state, after(&disk, &steps)), (State::Settled, settled("new")));
    }

    #[test]
    fn a_rollback_goes_to_the_last_good_configuration_and_keeps_what_it_replaces() {
        let steps = rollback(&settled("bad")).unwrap();
        assert_eq!(steps, [Step::KeepRolledBack("bad".into()), Step::WriteConfig("good".into())]);
        assert_eq!(rollback(&settled("good")), Err(CommitError::IsLastGood));
        let fresh = OnDisk { last_good: None, ..settled("bad") };
        assert_eq!(rollback(&fresh), Err(CommitError::NoArchive));
    }
}
