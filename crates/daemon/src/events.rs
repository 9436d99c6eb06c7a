//! Readers of `/v1/events`. Telling them never waits: a reader whose queue is full misses events and is told how many
//! as soon as there is room again; one that has missed too many is dropped. Without a reader it costs nothing.

use std::time::{Duration, Instant};

use peerup_control::{
    ApiError, EVENT_BOUND, ErrorKind,
    api::{Event, Happening, HealthItem, Timestamp},
};
use peerup_node::Event as NodeEvent;
use tokio::sync::mpsc;

use crate::{controller::Controller, view};

/// Each holds a connection of the control socket.
const MAX_READERS: usize = 16;
/// A reader that has missed this many in a row is not reading.
const MAX_MISSED: u64 = 4096;
/// Between two looks at the health.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Readers {
    readers: Vec<Reader>,
    /// The health that readers know of.
    health: Vec<HealthItem>,
    health_at: Option<Instant>,
}

struct Reader {
    queue: mpsc::Sender<Event>,
    missed: u64,
}

impl Readers {
    pub fn is_empty(&self) -> bool {
        self.readers.is_empty()
    }

    fn add(&mut self) -> Result<mpsc::Receiver<Event>, ApiError> {
        self.readers.retain(|reader| !reader.queue.is_closed());
        if self.readers.len() >= MAX_READERS {
            let text = format!("{MAX_READERS} readers follow the events already");
            return Err(ApiError::new(ErrorKind::Conflict, text));
        }
        let (queue, events) = mpsc::channel(EVENT_BOUND);
        self.readers.push(Reader { queue, missed: 0 });
        Ok(events)
    }

    fn tell(&mut self, at: Timestamp, what: &Happening) {
        self.readers.retain_mut(|reader| reader.tell(Event { at, what: what.clone() }));
    }

    /// What became different since the last look, by code.
    fn health_changes(&mut self, health: Vec<HealthItem>) -> Vec<Happening> {
        let before = std::mem::replace(&mut self.health, health);
        let is_in = |list: &[HealthItem], code: &str| list.iter().any(|item| item.code == code);
        let raised = self.health.iter().filter(|item| !is_in(&before, &item.code));
        let cleared = before.iter().filter(|item| !is_in(&self.health, &item.code));
        raised
            .map(|item| Happening::HealthRaised { item: item.clone() })
            .chain(cleared.map(|item| Happening::HealthCleared { code: item.code.clone() }))
            .collect()
    }
}

impl Reader {
    /// Whether this reader is worth keeping.
    fn tell(&mut self, event: Event) -> bool {
        if self.missed > 0 {
            let notice = Event { at: event.at, what: Happening::Missed { count: self.missed } };
            // The notice counts only when the event fits behind it.
            let Ok(mut room) = self.queue.try_reserve_many(2) else { return self.miss() };
            room.next().into_iter().for_each(|slot| slot.send(notice.clone()));
            room.next().into_iter().for_each(|slot| slot.send(event.clone()));
            self.missed = 0;
            return true;
        }
        match self.queue.try_send(event) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => self.miss(),
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    fn miss(&mut self) -> bool {
        self.missed += 1;
        self.missed <= MAX_MISSED && !self.queue.is_closed()
    }
}

impl Controller {
    pub(crate) fn follow_events(&mut self) -> Result<mpsc::Receiver<Event>, ApiError> {
        if self.events.is_empty() {
            self.events.health = view::health(self);
        }
        self.events.add()
    }

    pub(crate) fn tell_event(&mut self, event: &NodeEvent) {
        if self.events.is_empty() {
            return;
        }
        let at = Timestamp::from_unix(peerup_clock::unix());
        for what in self.happenings(event) {
            self.events.tell(at, &what);
        }
    }

    /// Looks at the health when somebody wants to know and the last look was a while ago.
    pub(crate) fn tell_health(&mut self, now: Instant) {
        let early = self.events.health_at.is_some_and(|at| now.saturating_duration_since(at) < HEALTH_EVERY);
        if self.events.is_empty() || early {
            return;
        }
        self.events.health_at = Some(now);
        let health = view::health(self);
        let at = Timestamp::from_unix(peerup_clock::unix());
        for what in self.events.health_changes(health) {
            self.events.tell(at, &what);
        }
    }

    fn happenings(&self, event: &NodeEvent) -> Vec<Happening> {
        match event {
            NodeEvent::PathChanged { peer, from, to, reason } => {
                let (peer, name) = (*peer, Some(view::display_name(self, peer)));
                let edge = match (from, to) {
                    (None, Some(_)) => Some(Happening::PeerUp { peer, name: name.clone() }),
                    (_, None) => Some(Happening::PeerDown { peer, name: name.clone() }),
                    (Some(_), Some(_)) => None,
                };
                let (from, to) = (from.map(Into::into), to.map(Into::into));
                let reason = reason.as_str().to_owned();
                edge.into_iter().chain([Happening::PathChanged { peer, name, from, to, reason }]).collect()
            }
            NodeEvent::RelayReserved { relay } => vec![Happening::RelayReserved { relay: *relay }],
            NodeEvent::RelayLost { relay } => vec![Happening::RelayLost { relay: *relay }],
            // Shown as health while it lasts.
            NodeEvent::AddressLost { .. } => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use peerup_control::api::Severity;

    use super::*;

    #[test]
    fn a_slow_reader_is_told_what_it_missed_and_where() {
        let mut readers = Readers::default();
        let mut events = readers.add().unwrap();
        for _ in 0..EVENT_BOUND + 3 {
            readers.tell(at(), &cleared());
        }
        for _ in 0..EVENT_BOUND {
            assert_eq!(events.try_recv().unwrap().what, cleared());
        }
        readers.tell(at(), &cleared());
        assert_eq!(events.try_recv().unwrap().what, Happening::Missed { count: 3 });
        assert_eq!(events.try_recv().unwrap().what, cleared());
        assert!(events.try_recv().is_err());
    }

    #[test]
    fn a_reader_that_never_reads_is_dropped_and_one_that_left_is_forgotten() {
        let mut readers = Readers::default();
        let mut stuck = readers.add().unwrap();
        drop(readers.add().unwrap());
        for _ in 0..EVENT_BOUND as u64 + MAX_MISSED + 1 {
            readers.tell(at(), &cleared());
        }
        assert!(readers.is_empty());
        while stuck.try_recv().is_ok() {}
        assert!(stuck.is_closed());
    }

    #[test]
    fn readers_are_bounded() {
        let mut readers = Readers::default();
        let kept: Vec<_> = (0..MAX_READERS).map(|_| readers.add().unwrap()).collect();
        assert_eq!(readers.add().unwrap_err().kind, ErrorKind::Conflict);
        drop(kept);
        assert!(readers.add().is_ok());
    }

    #[test]
    fn health_is_told_when_it_comes_and_when_it_goes() {
        let item = |code: &str| HealthItem {
            code: code.into(),
            severity: Severity::Info,
            text: "".into(),
            fix: None,
        };
        let mut readers = Readers::default();
        let raised = readers.health_changes(vec![item("a")]);
        assert_eq!(raised, [Happening::HealthRaised { item: item("a") }]);
        assert_eq!(readers.health_changes(vec![item("a")]), []);
        assert_eq!(readers.health_changes(vec![]), [Happening::HealthCleared { code: "a".into() }]);
    }

    fn cleared() -> Happening {
        Happening::HealthCleared { code: "x".into() }
    }

    fn at() -> Timestamp {
        Timestamp::from_unix(0)
    }
}
