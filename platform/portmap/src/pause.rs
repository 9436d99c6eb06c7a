//! When to ask again.

use std::time::Duration;

/// A router that forgot its mappings has them again after this time at the latest.
const LONGEST_RENEWAL: Duration = Duration::from_secs(30 * 60);
/// A router that grants seconds is not asked every second.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// Someone may switch port forwarding on in the router meanwhile.
const LONGEST_RETRY: Duration = Duration::from_secs(15 * 60);

/// Half of the lease (RFC 6886 §3.3, RFC 6887 §11.2.1).
pub fn until_renewal(lease: Duration) -> Duration {
    (lease / 2).clamp(SHORTEST_RENEWAL, LONGEST_RENEWAL)
}

/// After `failures` in a row, of which there is at least one.
pub fn until_retry(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_renewed_at_half_time_within_reason() {
        assert_eq!(until_renewal(Duration::from_secs(3600)), Duration::from_secs(1800));
        assert_eq!(until_renewal(Duration::from_secs(120)), Duration::from_secs(60));
        assert_eq!(until_renewal(Duration::from_secs(1)), SHORTEST_RENEWAL);
        assert_eq!(until_renewal(Duration::from_secs(7 * 86400)), LONGEST_RENEWAL);
    }

    #[test]
    fn pauses_after_failures_double_up_to_a_quarter_of_an_hour() {
        let pauses: Vec<u64> = (1..=7).map(|failures| until_retry(failures).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 900, 900]);
        assert_eq!(until_retry(u32::MAX), LONGEST_RETRY);
    }
}
