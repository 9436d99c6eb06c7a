//! Making a paired peer a member: its key in `authorized_keys`, its name and relays in the configuration. Either all
//! of it happens or none.

use peerup_config::{PeerAddr, unique_name};
use peerup_control::ApiError;
use peerup_service::files::{ConfigStore, read_private, write_private_atomic};
use peerup_trust::NodeName;
use peerup_types::{DnsLabel, PeerId};

use crate::{controller::Controller, error::DaemonError};

/// Far longer than a configuration that can be read.
const CONFIG_LIMIT: u64 = 1 << 20;

impl Controller {
    /// The key comes last, so that nobody is trusted by half a pairing.
    pub(super) fn authorize(
        &mut self,
        peer: PeerId,
        name: &NodeName,
        relays: &[PeerAddr],
    ) -> Result<(), ApiError> {
        // A list that cannot be read refuses before anything is written.
        let known = self.files.keys().map_err(ApiError::from)?.get(&peer).is_some();
        let label = self.new_label(&peer, name);
        let before = read_private(&self.files.config_file, CONFIG_LIMIT).map_err(DaemonError::from)?;
        // What a change on probation would go back to learns the same.
        let former = ConfigStore::beside(&self.files.config_file).paths().backup.clone();
        let before_former = read_private(&former, CONFIG_LIMIT).ok();
        let named = label.as_ref().map(|label| (label, peer));
        let written = self.files.learn(named, relays).map_err(ApiError::from);
        let written = written.and_then(|()| if known { Ok(()) } else { self.add_key(peer, name) });
        if let Err(error) = written {
            self.restore_config(&before);
            if let Some(text) = before_former.filter(|_| former.exists())
                && let Err(error) = write_private_atomic(&former, &text)
            {
                tracing::error!(%error, "the former configuration keeps an unused name");
            }
            return Err(error);
        }
        if let Some(label) = label {
            self.node.membership_mut().set_name(peer, label);
        }
        Ok(())
    }

    fn add_key(&mut self, peer: PeerId, name: &NodeName) -> Result<(), ApiError> {
        self.change_keys(|keys| {
            keys.add(peer, Some(name.as_str())).map_err(|error| ApiError::failure(error.to_string()))
        })
    }

    /// The name that the configuration is to give the peer; `None` when it has one.
    fn new_label(&self, peer: &PeerId, name: &NodeName) -> Option<DnsLabel> {
        let names = &self.files.config.names;
        if names.values().any(|known| known == peer) {
            return None;
        }
        Some(unique_name(names.keys(), &DnsLabel::sanitise(name.as_str())?))
    }

    fn restore_config(&mut self, before: &[u8]) {
        let file = &self.files.config_file;
        if read_private(file, CONFIG_LIMIT).is_ok_and(|bytes| bytes == before) {
            return;
        }
        let written = write_private_atomic(file, before).map_err(DaemonError::from);
        if let Err(error) = written.and_then(|()| self.files.reload()) {
            tracing::error!(error = %crate::error::describe(&error), "the configuration keeps an unused name");
        }
    }
}
