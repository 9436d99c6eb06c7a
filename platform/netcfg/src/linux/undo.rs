//! Taking back what a journal lists.
//!
//! Everything is tried, whatever fails before it; what is gone already counts as done. The first failure is
//! reported at the end, and the journal is kept for the next attempt.

use std::path::Path;
use std::thread;

use super::link::Link;
use super::netlink::{Netlink, errno};
use crate::journal::{Journal, LinkBefore, Record};
use crate::{Change, CleanupReport, NetlinkError, NetworkError};

/// Takes back what the process that wrote `journal` changed, and deletes the journal. Does nothing without one.
///
/// For use after kill -9: the caller makes sure that the process is gone.
pub async fn cleanup(journal: &Path) -> Result<CleanupReport, NetworkError> {
    undo_and_delete(&open()?, &mut Journal::open(journal.into())?).await
}

pub(super) fn open() -> Result<Netlink, NetworkError> {
    Netlink::open().map_err(|source| NetworkError::Read { what: "routing socket", source })
}

pub(super) async fn undo_and_delete(
    netlink: &Netlink,
    journal: &mut Journal,
) -> Result<CleanupReport, NetworkError> {
    let report = match journal.record() {
        record if record.is_empty() => CleanupReport::default(),
        record => undo(netlink, record).await?,
    };
    journal.delete()?;
    Ok(report)
}

/// For a destructor, which may run inside an async runtime, on unwinding, or in one that is shutting down: a thread
/// and a runtime of its own, waited for.
pub(super) fn undo_on_a_thread(journal: &Path) {
    let journal = journal.to_owned();
    let undone = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(cleanup(&journal)))
    });
    match undone.join() {
        Ok(Ok(Ok(_))) => {}
        Ok(Ok(Err(error))) => tracing::error!(%error, "the network was not restored: peerup down --cleanup"),
        Ok(Err(error)) => tracing::error!(%error, "the network was not restored: peerup down --cleanup"),
        Err(_) => tracing::error!("the network was not restored: peerup down --cleanup"),
    }
}

async fn undo(netlink: &Netlink, record: &Record) -> Result<CleanupReport, NetworkError> {
    let mut attempts = Attempts::default();
    for range in &record.unreachable {
        let done = netlink.remove_unreachable(*range).await;
        attempts.note(Change::RemoveUnreachable { range: *range }, done);
    }
    let link = netlink
        .link(&record.interface)
        .await
        .map_err(|source| NetworkError::Read { what: "interfaces", source })?
        .filter(|link| link.is_tun);
    if let Some(link) = link {
        undo_on_link(netlink, record, &link, &mut attempts).await;
    }
    attempts.finish()
}

async fn undo_on_link(netlink: &Netlink, record: &Record, link: &Link, attempts: &mut Attempts) {
    let index = link.state.index;
    for destination in &record.peers {
        let done = netlink.remove_host_route(index, *destination).await;
        attempts.note(Change::RemoveRoute { destination: *destination }, done);
    }
    for address in &record.addresses {
        let done = netlink.remove_address(index, *address).await;
        attempts.note(Change::RemoveAddress { address: *address }, done);
    }
    let Some(before) = &record.link else { return };
    let interface = || record.interface.clone();
    if link.is_left_over(before) {
        attempts.note(Change::RemoveLink { interface: interface() }, netlink.remove_link(index).await);
    } else if before.index == index {
        attempts.note(Change::RestoreLink { interface: interface() }, restore(netlink, before).await);
    }
}

/// A link that stays (an administrator's, or ours until the device is closed) looks as it did before.
async fn restore(netlink: &Netlink, before: &LinkBefore) -> Result<(), NetlinkError> {
    netlink.set_link(before).await?;
    match before.address_generation {
        Some(mode) => netlink.set_address_generation(before.index, mode).await,
        None => Ok(()),
    }
}

/// What was removed, and what went wrong first.
#[derive(Default)]
struct Attempts {
    report: CleanupReport,
    failure: Option<NetworkError>,
}

impl Attempts {
    fn note(&mut self, change: Change, done: Result<(), NetlinkError>) {
        match done {
            Ok(()) => self.report.removed.push(change),
            Err(error) if is_gone(&error) => {}
            Err(source) => {
                self.failure.get_or_insert(NetworkError::Change { change, source });
            }
        }
    }

    fn finish(self) -> Result<CleanupReport, NetworkError> {
        self.failure.map_or(Ok(self.report), Err)
    }
}

/// How the kernel says that there is no such route, address, link, or no IPv6 at all.
pub(super) fn is_gone(error: &NetlinkError) -> bool {
    use errno::{EADDRNOTAVAIL, EAFNOSUPPORT, ENODEV, EOPNOTSUPP, ESRCH};
    matches!(error.errno(), Some(ESRCH | ENODEV | EADDRNOTAVAIL | EAFNOSUPPORT | EOPNOTSUPP))
}
