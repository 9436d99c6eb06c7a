//! The configuration while the relay runs: followed when it changes, taken back when it is not confirmed, kept as the
//! last good one when the relay has run on it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use peerup_config::{Resolved, commit::State, effect};
use peerup_service::files::{ConfigStore, StoreError};

use super::Relay;
use crate::{
    error::RelayError,
    files::{load_config, read_config_text},
    watch::FileWatch,
};

/// A relay that has listened for this long has proven its configuration.
const PROVEN_AFTER: Duration = Duration::from_secs(10);
/// Between two attempts to take a change back.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Where the configuration stands.
pub struct Standing {
    file: PathBuf,
    store: ConfigStore,
    /// What the parts that are made at the start are made of.
    built_on: Resolved,
    /// The text of the start and when it may count as good; `None` once that is settled.
    unproven: Option<(String, Instant)>,
    /// When the change in force is taken back unless it is confirmed.
    deadline: Option<Instant>,
    watch: FileWatch,
}

impl Standing {
    pub fn new(file: &Path, built_on: Resolved) -> Result<Self, RelayError> {
        let store = ConfigStore::beside(file);
        let watch = FileWatch::new(&[file, &store.paths().pending]);
        let now = peerup_clock::now();
        let unproven = Some((read_config_text(file)?, now + PROVEN_AFTER));
        let mut standing = Self { file: file.into(), store, built_on, unproven, deadline: None, watch };
        standing.settle(now)?;
        Ok(standing)
    }

    pub async fn changed(&mut self) {
        self.watch.changed().await;
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.unproven.iter().map(|(_, at)| *at).chain(self.deadline).min()
    }

    fn settle(&mut self, now: Instant) -> Result<(), StoreError> {
        self.deadline = match self.store.settle(peerup_clock::since_epoch())? {
            State::Pending { left } => Some(now + left),
            State::Settled => None,
            State::Expired => {
                tracing::warn!("the configuration was not confirmed in time: the former one is back");
                None
            }
        };
        Ok(())
    }
}

impl Relay {
    /// Follows the file as it is. One that cannot be read changes nothing.
    pub(super) fn reload_config(&mut self) {
        let was_on_probation = self.standing.deadline.is_some();
        let settled = self.standing.settle(peerup_clock::now()).map_err(RelayError::from);
        let config = match settled.and_then(|()| load_config(&self.standing.file)) {
            Ok(config) => config,
            Err(error) => {
                return tracing::error!(
                    error = &error as &dyn std::error::Error,
                    hint = error.hint(),
                    "the configuration in use stays"
                );
            }
        };
        let waiting = effect::waiting(effect::RELAY, &self.standing.built_on, &config.resolved());
        self.config.security.enable_connection_gating = config.security.enable_connection_gating;
        self.config.relay.vouching = config.relay.vouching;
        self.apply_admission();
        if waiting.is_empty() {
            return;
        }
        let keys = waiting.join(", ");
        self.again = self.standing.deadline.is_some() || was_on_probation;
        match self.again {
            true => tracing::info!(keys, "starting again to follow the configuration"),
            false => tracing::info!(keys, "changed; counts after a restart"),
        }
    }

    pub(super) fn on_config_time(&mut self, now: Instant) {
        let standing = &mut self.standing;
        if standing.deadline.is_some_and(|at| at <= now) {
            match standing.store.expire() {
                Ok(true) => {
                    tracing::warn!("the configuration was not confirmed in time: the former one is back")
                }
                Ok(false) => {}
                Err(error) => {
                    standing.deadline = Some(now + TRY_AGAIN_AFTER);
                    return tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot take the configuration back"
                    );
                }
            }
            self.reload_config();
        }
        let standing = &mut self.standing;
        if let Some((text, _)) = standing.unproven.take_if(|(_, at)| *at <= now)
            && let Err(error) = standing.store.archive(&text)
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot keep the last good configuration"
            );
        }
    }
}
