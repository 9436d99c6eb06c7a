//! What the relay has done since it started, for its log.

/// Counts since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// New reservations; renewals are not among them.
    pub reservations: u64,
    pub circuits_opened: u64,
    pub circuits_closed: u64,
    /// Requests for reservations and circuits that got none, circuits of guests that were cut, and refused vouching.
    pub refused: u64,
    /// Peers added on the word of others.
    pub vouched: u64,
    /// Peers that joined with a code of a group.
    pub paired: u64,
    /// Times that libp2p had to be rebuilt.
    pub restarts: u64,
}

impl Counters {
    /// One line at INFO.
    pub fn log(&self, connections: usize, refused_connections: u64) {
        let Self { reservations, circuits_opened, circuits_closed, refused, vouched, paired, restarts } =
            self;
        tracing::info!(
            connections,
            reservations,
            circuits_opened,
            circuits_closed,
            refused,
            refused_connections,
            vouched,
            paired,
            restarts,
            "since the start"
        );
    }
}
