//! Who may connect inbound: the `authorized_keys` check.
//!
//! The check runs after the handshake, when TLS or Noise has proved the peer ID, and as the first field of the
//! composed behaviour, so no other behaviour sees a connection that it refuses. Outbound dials are this node's own
//! choice and free, except those that a remote peer triggers through DCUtR (`role_override` is listener), which
//! are checked like inbound ones.
//!
//! While an invite is open, unknown peers are let in as *guests*: few at a time, for a short while, and
//! `crate::paths` offers them the invite protocol only.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::refusals::Refusals;

/// Guests at once: an invite needs one, a mistyped code a second; more is somebody trying the door.
const MAX_GUESTS: usize = 10;
/// Long enough for the pairing handshake over a slow relay.
const GUEST_DEADLINE: Duration = Duration::from_secs(30);
/// Decisions that wait for whoever observes them.
const MAX_DECISIONS: usize = 256;

/// The policy, replaced whole when a key or an invite changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Peers in `authorized_keys` that have not expired.
    pub authorized: BTreeSet<PeerId>,
    /// Peers this node chose itself: configured relays.
    pub infrastructure: BTreeSet<PeerId>,
    /// Whether an invite (or, on a relay, a vouched admission) is open.
    pub guests: bool,
    /// Whether everybody may connect: a relay whose owner has turned gating off.
    pub open: bool,
}

/// What a peer is to this node under an [`Admission`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Authorized,
    Infrastructure,
    /// Admitted because everybody is, and offered what guests are.
    Anybody,
    Guest,
    Stranger,
}

impl Admission {
    pub fn standing(&self, peer: &PeerId) -> Standing {
        if self.authorized.contains(peer) {
            Standing::Authorized
        } else if self.infrastructure.contains(peer) {
            Standing::Infrastructure
        } else if self.open {
            Standing::Anybody
        } else if self.guests {
            Standing::Guest
        } else {
            Standing::Stranger
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("peer {0} is not authorized")]
    NotAuthorized(PeerId),
    #[error("too many unknown peers at once while an invite is open")]
    TooManyGuests,
}

#[derive(Default)]
pub struct Behaviour {
    admission: Arc<Admission>,
    guests: BTreeMap<ConnectionId, PeerId>,
    deadlines: FuturesUnordered<BoxFuture<'static, ConnectionId>>,
    refusals: Refusals,
    /// What was decided of inbound connections, while somebody wants to know.
    decisions: Option<VecDeque<Decision>>,
}

/// An inbound connection was let in or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub peer: PeerId,
    pub allowed: bool,
}

impl Behaviour {
    /// From here on decisions are kept for [`Behaviour::take_decision`]. Strangers decide how many there are, so only
    /// the first [`MAX_DECISIONS`] that nobody has taken are.
    pub fn observe(&mut self) {
        self.decisions.get_or_insert_default();
    }

    pub fn take_decision(&mut self) -> Option<Decision> {
        self.decisions.as_mut()?.pop_front()
    }

    fn decided(&mut self, peer: PeerId, allowed: bool) {
        if let Some(decisions) = &mut self.decisions
            && decisions.len() < MAX_DECISIONS
        {
            decisions.push_back(Decision { peer, allowed });
        }
    }

    pub fn set_admission(&mut self, admission: Arc<Admission>) {
        self.admission = admission;
    }

    /// Connections refused since the start.
    pub fn refused(&self) -> u64 {
        self.refusals.total()
    }

    fn check(&mut self, connection: ConnectionId, peer: PeerId) -> Result<(), ConnectionDenied> {
        match self.admission.standing(&peer) {
            Standing::Authorized | Standing::Infrastructure | Standing::Anybody => Ok(()),
            Standing::Stranger => self.refuse(Refused::NotAuthorized(peer)),
            Standing::Guest if self.guests.len() >= MAX_GUESTS => self.refuse(Refused::TooManyGuests),
            Standing::Guest => {
                self.guests.insert(connection, peer);
                self.deadlines.push(tokio::time::sleep(GUEST_DEADLINE).map(move |()| connection).boxed());
                Ok(())
            }
        }
    }

    fn refuse(&mut self, why: Refused) -> Result<(), ConnectionDenied> {
        match self.refusals.record() {
            true => tracing::info!(%why, "inbound connection refused; more will be counted"),
            false => tracing::debug!(%why, "inbound connection refused"),
        }
        Err(ConnectionDenied::new(why))
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let checked = self.check(connection, peer);
        self.decided(peer, checked.is_ok());
        checked.map(|()| dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        role: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if role == Endpoint::Listener {
            let checked = self.check(connection, peer);
            self.decided(peer, checked.is_ok());
            checked?;
        }
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = event {
            self.guests.remove(&closed.connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        while let Poll::Ready(count) = self.refusals.poll_summary(cx) {
            tracing::info!(count, "more inbound connections refused within a minute");
        }
        while let Poll::Ready(Some(connection)) = Pin::new(&mut self.deadlines).poll_next_unpin(cx) {
            let Some(peer_id) = self.guests.remove(&connection) else { continue };
            // A guest whose pairing succeeded meanwhile stays.
            if self.admission.standing(&peer_id) == Standing::Authorized {
                continue;
            }
            return Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::One(connection),
            });
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound(gater: &mut Behaviour, id: usize, peer: PeerId) -> Result<(), ConnectionDenied> {
        let addr = Multiaddr::empty();
        gater
            .handle_established_inbound_connection(ConnectionId::new_unchecked(id), peer, &addr, &addr)
            .map(|_| ())
    }

    #[tokio::test]
    async fn strangers_are_refused_and_counted_and_authorized_peers_pass() {
        let friend = PeerId::random();
        let mut gater = Behaviour::default();
        gater.set_admission(Arc::new(Admission {
            authorized: BTreeSet::from([friend]),
            ..Admission::default()
        }));
        assert!(inbound(&mut gater, 1, friend).is_ok());
        assert!(inbound(&mut gater, 2, PeerId::random()).is_err());
        assert_eq!(gater.refused(), 1);
    }

    #[tokio::test]
    async fn decisions_are_kept_for_who_observes_and_never_more_than_a_bounded_number() {
        let friend = PeerId::random();
        let mut gater = Behaviour::default();
        assert!(inbound(&mut gater, 1, friend).is_err());
        assert_eq!(gater.take_decision(), None, "nobody observes");
        gater.observe();
        gater.set_admission(Arc::new(Admission {
            authorized: BTreeSet::from([friend]),
            ..Admission::default()
        }));
        assert!(inbound(&mut gater, 2, friend).is_ok());
        for id in 3..3 + 2 * MAX_DECISIONS {
            assert!(inbound(&mut gater, id, PeerId::random()).is_err());
        }
        assert_eq!(gater.take_decision(), Some(Decision { peer: friend, allowed: true }));
        let kept = std::iter::from_fn(|| gater.take_decision()).filter(|decision| !decision.allowed).count();
        assert_eq!(kept, MAX_DECISIONS - 1);
    }

    #[tokio::test]
    async fn an_open_invite_lets_a_bounded_number_of_guests_in() {
        let mut gater = Behaviour::default();
        gater.set_admission(Arc::new(Admission { guests: true, ..Admission::default() }));
        for id in 0..MAX_GUESTS {
            assert!(inbound(&mut gater, id, PeerId::random()).is_ok());
        }
        assert!(inbound(&mut gater, 99, PeerId::random()).is_err());
    }

    #[tokio::test]
    async fn an_open_door_admits_everybody_but_makes_nobody_authorized() {
        let mut gater = Behaviour::default();
        let open = Admission { open: true, guests: true, ..Admission::default() };
        assert_eq!(open.standing(&PeerId::random()), Standing::Anybody);
        gater.set_admission(Arc::new(open));
        for id in 0..=MAX_GUESTS {
            assert!(inbound(&mut gater, id, PeerId::random()).is_ok());
        }
        assert_eq!(gater.refused(), 0);
    }

    #[tokio::test]
    async fn a_dial_that_a_remote_triggered_is_checked_like_an_inbound_one() {
        let mut gater = Behaviour::default();
        let addr = Multiaddr::empty();
        let mut outbound = |role| {
            gater
                .handle_established_outbound_connection(
                    ConnectionId::new_unchecked(1),
                    PeerId::random(),
                    &addr,
                    role,
                    PortUse::Reuse,
                )
                .is_ok()
        };
        assert!(outbound(Endpoint::Dialer));
        assert!(!outbound(Endpoint::Listener));
    }
}
