//! What a command has written and its connections have not delivered yet when it ends.
//!
//! A host's kernel goes on sending for a process that has closed its sockets and gone. The kernel of a network
//! namespace does so for as long as the namespace lives, which is until the last process in it ends.

use std::{fs, time::Duration};

/// As `/proc/net/tcp` names what follows our FIN until it is acknowledged: FIN-WAIT-1, LAST-ACK, CLOSING.
const DELIVERING: [&str; 3] = ["04", "09", "0B"];
/// Between two looks; the kernel announces nothing.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until everything that was sent in this thread's network namespace has arrived, but not for longer than
/// `limit`. Connections that somebody still holds are not waited for.
#[expect(clippy::disallowed_methods, reason = "no event tells when a socket without an owner has delivered")]
pub fn deliver(limit: Duration) {
    let looks = limit.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        if !["tcp", "tcp6"].iter().any(|table| is_delivering(&read(table))) {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

fn read(table: &str) -> String {
    // /proc/net is the process's; a thread may be elsewhere.
    fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default()
}

/// proc(5): number, local and remote address, state.
fn is_delivering(table: &str) -> bool {
    let states = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
    states.into_iter().any(|state| DELIVERING.contains(&state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_fin_is_waited_for_and_what_somebody_holds_is_not() {
        let table = |state: &str| {
            format!(
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                 0: 0100400A:9C40 0200400A:2328 {state} 00000000:00000000 00:00000000 00000000  1000        0 7\n"
            )
        };
        for (state, waits) in
            [("01", false), ("04", true), ("06", false), ("08", false), ("09", true), ("0B", true)]
        {
            assert_eq!(is_delivering(&table(state)), waits, "{state}");
        }
        assert!(!is_delivering(""));
    }
}
