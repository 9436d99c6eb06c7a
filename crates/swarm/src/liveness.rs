//! Notices that a connection is dead although nobody said so.
//!
//! Suspend, roaming and a forgotten NAT mapping end a TCP connection without FIN or RST, and TCP has no keep-alive
//! of its own. QUIC gives up by itself when it is idle; a reservation over TCP would look alive until the kernel
//! stops retransmitting. libp2p's ping only reports, so the shell closes what ping reports as failed.
//!
//! libp2p keeps the first failure in a row to itself and pings again after the interval, so a silent connection is
//! closed after between one interval and two timeouts (a ping was just sent) and two of both (one was just
//! answered): 20 to 30 seconds. What must be noticed sooner is probed on its own streams.

use std::{error::Error, io, time::Duration};

use libp2p::{core::upgrade::NegotiationError, ping};

/// Costs one exchange of 32 bytes per connection and interval, also on idle connections: about 20 packets a minute.
const INTERVAL: Duration = Duration::from_secs(10);
/// A round trip over a congested relay takes a second or two; two timeouts in a row are needed.
const TIMEOUT: Duration = Duration::from_secs(5);

pub fn ping() -> ping::Behaviour {
    ping::Behaviour::new(ping::Config::new().with_interval(INTERVAL).with_timeout(TIMEOUT))
}

/// Whether a failed ping means that the connection is of no use. A peer without ping is no such thing.
pub fn is_dead(failure: &ping::Failure) -> bool {
    match failure {
        ping::Failure::Timeout => true,
        ping::Failure::Unsupported => false,
        ping::Failure::Other { error } => !is_refused(error.as_ref()),
    }
}

/// Protocols are negotiated lazily, so the refusal of one arrives as an error of the first read.
fn is_refused(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let cause = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    matches!(cause.and_then(|cause| cause.downcast_ref()), Some(NegotiationError::Failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(error: io::Error) -> ping::Failure {
        ping::Failure::Other { error: Box::new(error) }
    }

    #[test]
    fn silence_and_errors_are_death_and_a_peer_without_ping_is_not() {
        assert!(is_dead(&ping::Failure::Timeout));
        assert!(is_dead(&other(io::ErrorKind::ConnectionReset.into())));
        assert!(!is_dead(&ping::Failure::Unsupported));
        assert!(!is_dead(&other(NegotiationError::Failed.into())));
    }
}
