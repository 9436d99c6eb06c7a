//! Messages to systemd. Without `NOTIFY_SOCKET` each of them does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon does its work: units that are ordered after it may start.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// The daemon is on its way out.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The event loop is alive.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// How often [`watchdog`] has to be called at least (half of what the unit's `WatchdogSec=` allows), when
/// the unit asks for it at all.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
