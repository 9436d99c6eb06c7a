//! The audit log: who was let in, who changed what, as JSON lines on standard error beside the other log lines.
//!
//! Off unless `telemetry.audit.enabled` is set; then there is an [`Audit`], and otherwise none. Every line has the
//! fields `time` (RFC 3339) and `audit`, an object with `event` and the fields of that event, as the Go original
//! names them.

use serde_json::{Value, json};

/// Writes audit events. Where auditing is off, there is none.
#[derive(Debug, Clone, Copy)]
pub struct Audit(());

impl Audit {
    pub fn new(enabled: bool) -> Option<Self> {
        enabled.then_some(Self(()))
    }

    /// An inbound connection was let in or refused.
    pub fn auth_decision(self, unix: u64, peer: &str, allowed: bool) {
        let result = if allowed { "allow" } else { "deny" };
        self.write(
            unix,
            json!({"event": "auth_decision", "peer": peer, "direction": "inbound", "result": result}),
        );
    }

    /// A key was added, changed or removed.
    pub fn auth_change(self, unix: u64, action: &str, peer: &str) {
        self.write(unix, json!({"event": "auth_change", "action": action, "peer": peer}));
    }

    /// Somebody asked for a service that is not theirs to use.
    pub fn service_acl_denied(self, unix: u64, peer: &str, service: &str) {
        self.write(unix, json!({"event": "service_acl_denied", "peer": peer, "service": service}));
    }

    /// A request at the control socket.
    pub fn daemon_api_access(self, unix: u64, method: &str, path: &str, status: u16) {
        self.write(
            unix,
            json!({"event": "daemon_api_access", "method": method, "path": path, "status": status}),
        );
    }

    fn write(self, unix: u64, event: Value) {
        eprintln!("{}", line(unix, event));
    }
}

fn line(unix: u64, event: Value) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(i64::try_from(unix).unwrap_or(0));
    let time = time.ok().and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
    json!({"time": time, "audit": event}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_json_line_whatever_its_fields_hold() {
        let text = line(1_700_000_000, json!({"event": "auth_change", "peer": "a\nb\"c"}));
        assert!(!text.contains('\n'));
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["time"], "2023-11-14T22:13:20Z");
        assert_eq!(read["audit"]["peer"], "a\nb\"c");
    }

    #[test]
    fn without_auditing_there_is_nobody_who_could_write() {
        assert!(Audit::new(false).is_none());
    }
}
