//! Edits of `services`.

use peerup_types::DnsLabel;

use crate::{
    edit::{self, EditError, Edited, Value},
    node::Service,
};

const SERVICES: &str = "services";

impl Service {
    /// Writes this service under `services.<name>`, with the keys that say something.
    pub fn set(&self, text: &str, name: &DnsLabel) -> Result<Edited, EditError> {
        let mut entries = vec![
            ("enabled".to_owned(), Value::Bool(self.enabled)),
            ("local_address".to_owned(), Value::text(&self.local_address)),
        ];
        entries.extend(self.protocol.as_ref().map(|id| ("protocol".to_owned(), Value::text(id))));
        let allowed = self.allowed_peers.as_ref();
        entries.extend(allowed.map(|peers| ("allowed_peers".to_owned(), Value::texts(peers))));
        edit::set(text, &[SERVICES, name.as_str()], &Value::Section(entries))
    }

    /// Turns `services.<name>` on or off.
    pub fn switch(text: &str, name: &DnsLabel, enabled: bool) -> Result<Edited, EditError> {
        edit::set(text, &[SERVICES, name.as_str(), "enabled"], &Value::Bool(enabled))
    }

    /// Removes `services.<name>`.
    pub fn remove(text: &str, name: &DnsLabel) -> Result<Edited, EditError> {
        edit::remove(text, &[SERVICES, name.as_str()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "version: 1 # ours\n\n# what we offer\nservices:\n  # the printer\n  web: {enabled: true, local_address: '10.0.0.9:80'}\n";

    #[test]
    fn a_service_comes_is_switched_and_goes_and_comments_stay() {
        let (ssh, web) = ("ssh".parse().unwrap(), "web".parse().unwrap());
        let service = Service {
            enabled: true,
            local_address: "localhost:22".parse().unwrap(),
            protocol: None,
            allowed_peers: None,
        };
        let added = changed(service.set(BEFORE, &ssh));
        assert_eq!(added, format!("{BEFORE}  ssh:\n    enabled: true\n    local_address: localhost:22\n"));
        assert_eq!(service.set(&added, &ssh).unwrap(), Edited::Unchanged);
        let off = changed(Service::switch(&added, &ssh, false));
        assert_eq!(off, added.replace("    enabled: true", "    enabled: false"));
        assert_eq!(changed(Service::remove(&off, &ssh)), BEFORE);
        let empty = changed(Service::remove(BEFORE, &web));
        assert!(empty.contains("services: {}") && empty.contains("# what we offer"), "{empty}");
    }

    fn changed(edited: Result<Edited, EditError>) -> String {
        match edited.unwrap() {
            Edited::Changed(text) => text,
            Edited::Unchanged => panic!("nothing changed"),
        }
    }
}
