//! The configuration while the node runs: followed when it changes, taken back when it is not confirmed, kept as the
//! last good one when it has proven itself.

use std::time::{Duration, Instant};

use peerup_config::{NodeConfig, commit::State, effect};
use peerup_path::ReservationState;
use peerup_service::files::{ConfigStore, StoreError};

use super::Controller;
use crate::{
    data::Command,
    error::{DaemonError, describe},
    files::Files,
    watch::FileWatch,
};

/// A configuration has proven itself when the node has run on it for this long and reaches somebody.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// Between two attempts to take a change back.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Where the configuration stands.
pub struct Standing {
    store: ConfigStore,
    /// What the parts that are made at the start are made of.
    built_on: NodeConfig,
    /// The text of the start and when it may count as good; `None` once that is settled.
    unproven: Option<(String, Instant)>,
    /// When the change in force is taken back unless it is confirmed.
    pub deadline: Option<Instant>,
    /// The same for `authorized_keys`.
    pub keys_deadline: Option<Instant>,
    /// Keys that have changed and count after a restart.
    pub waiting: Vec<String>,
}

impl Standing {
    pub fn new(files: &Files, now: Instant) -> Self {
        let mut standing = Self {
            store: ConfigStore::beside(&files.config_file),
            built_on: files.config.clone(),
            unproven: Some((files.text.clone(), now + PROVEN_AFTER)),
            deadline: None,
            keys_deadline: None,
            waiting: Vec::new(),
        };
        if let Err(error) = standing.settle(now) {
            tracing::error!(error = %describe(&error), "cannot tell whether the configuration is confirmed");
        }
        standing.settle_keys(files, now);
        standing
    }

    fn settle_keys(&mut self, files: &Files, now: Instant) {
        self.keys_deadline = match keys_store(files).settle(peerup_clock::since_epoch()) {
            Ok(State::Pending { left }) => Some(now + left),
            Ok(State::Settled | State::Expired) => None,
            Err(error) => {
                tracing::error!(error = %describe(&error), "cannot tell whether authorized_keys is confirmed");
                None
            }
        };
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.keys_deadline).min()
    }

    /// Looks at the marker of an unconfirmed change.
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

impl Controller {
    /// Reads the configuration again and follows it. What cannot be read keeps its old meaning.
    pub(super) async fn reload_config(&mut self) {
        let was_on_probation = self.standing.deadline.is_some();
        let before = self.files.config.clone();
        let settled = self.standing.settle(peerup_clock::now()).map_err(|error| describe(&error));
        let read = settled.and_then(|()| self.files.reload().map_err(|error| describe(&error)));
        self.config_problem = read.err();
        if self.config_problem.is_none() {
            self.config_problem = self.follow_config(&before).await.err().map(|error| describe(&error));
        }
        if let Some(problem) = &self.config_problem {
            tracing::error!(%problem, "the configuration in use stays");
        }
        self.note_waiting(was_on_probation);
        self.standing.settle_keys(&self.files, peerup_clock::now());
    }

    /// Makes the changed keys count that can count at once. The relays and the keys are the caller's.
    async fn follow_config(&mut self, before: &NodeConfig) -> Result<(), DaemonError> {
        let config = self.files.config.clone();
        if config.security.authorized_keys_file != before.security.authorized_keys_file {
            self.watch = FileWatch::new(&watched(&self.files));
        }
        if !self.is_member() {
            return Ok(());
        }
        for gone in &before.network.external_addresses {
            if !config.network.external_addresses.contains(gone) {
                self.swarm.remove_external_address(gone);
            }
        }
        for address in &config.network.external_addresses {
            self.swarm.add_external_address(address.clone());
        }
        let external = config.network.external_addresses.clone();
        self.surroundings.configure(external.clone(), config.network.force_private_reachability);
        self.data.send(Command::Carriers(config.vpn.carrier)).await;
        self.node.reconfigure(config.name.clone(), config.vpn.mtu, external, peerup_clock::now());
        self.follow_interface(before, &config).await
    }

    async fn follow_interface(
        &mut self,
        before: &NodeConfig,
        config: &NodeConfig,
    ) -> Result<(), DaemonError> {
        let (old, new) = (&before.vpn, &config.vpn);
        let remade = (&old.interface, old.mtu) != (&new.interface, new.mtu);
        if self.interface.is_some() && (!new.enabled || remade) {
            self.take_down().await?;
            if new.enabled {
                self.bring_up().await?;
            }
        } else if self.interface.is_none() && new.enabled && !old.enabled {
            self.bring_up().await?;
        }
        Ok(())
    }

    /// A node on probation starts again for what counts only then; any other says what it waits for.
    fn note_waiting(&mut self, was_on_probation: bool) {
        let (built_on, config) = (self.standing.built_on.resolved(), self.files.config.resolved());
        self.standing.waiting = effect::waiting(effect::NODE, &built_on, &config);
        if self.standing.waiting.is_empty() || !self.is_member() {
            return;
        }
        let keys = self.standing.waiting.join(", ");
        if self.standing.deadline.is_some() || was_on_probation {
            tracing::info!(keys, "starting again to follow the configuration");
            self.start_again();
        } else {
            tracing::info!(keys, "changed; counts after a restart");
        }
    }

    /// Takes an unconfirmed change back at its deadline, and archives what has proven itself.
    pub(super) async fn on_config_time(&mut self, now: Instant) {
        if self.standing.deadline.is_some_and(|at| at <= now) {
            match self.standing.store.expire() {
                Ok(true) => {
                    tracing::warn!("the configuration was not confirmed in time: the former one is back")
                }
                Ok(false) => {}
                Err(error) => {
                    self.standing.deadline = Some(now + TRY_AGAIN_AFTER);
                    return tracing::error!(error = %describe(&error), "cannot take the configuration back");
                }
            }
            self.reload().await;
        }
        if self.standing.keys_deadline.is_some_and(|at| at <= now) {
            match keys_store(&self.files).expire() {
                Ok(true) => {
                    tracing::warn!("authorized_keys was not confirmed in time: the former one is back")
                }
                Ok(false) => {}
                Err(error) => {
                    self.standing.keys_deadline = Some(now + TRY_AGAIN_AFTER);
                    return tracing::error!(error = %describe(&error), "cannot take authorized_keys back");
                }
            }
            self.reload().await;
        }
        self.archive_proven(now);
    }

    fn archive_proven(&mut self, now: Instant) {
        let Some((text, at)) = &self.standing.unproven else { return };
        if *at > now || !self.reaches_somebody() {
            return;
        }
        if let Err(error) = self.standing.store.archive(text) {
            tracing::warn!(error = %describe(&error), "cannot keep the last good configuration");
        }
        self.standing.unproven = None;
    }

    /// A node that has nobody to reach reaches all of them.
    fn reaches_somebody(&self) -> bool {
        let alone = self.node.peers().is_empty() && self.relays().is_empty();
        let reserved = || self.node.relays().iter().any(|relay| relay.state == ReservationState::Held);
        self.is_member() && (alone || !self.node.active_paths().is_empty() || reserved())
    }
}

fn keys_store(files: &Files) -> ConfigStore {
    ConfigStore::beside(&files.config.security.authorized_keys_file)
}

/// The files whose changes are noticed.
pub fn watched(files: &Files) -> [std::path::PathBuf; 4] {
    let pending = ConfigStore::beside(&files.config_file).paths().pending.clone();
    [
        files.config.security.authorized_keys_file.clone(),
        files.config_file.clone(),
        pending,
        keys_store(files).paths().pending.clone(),
    ]
}
