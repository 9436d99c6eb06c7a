//! Somebody administers a far machine by ssh through the overlay, and types what cuts the session.

use std::time::Duration;

use peerup_lab::peerup::{JOINER, Pair, binary};
use peerup_lab::tools::ping::pings;
use peerup_lab::tools::ssh::Sshd;

use crate::limits::DIRECT;

const AT_ONCE: Duration = Duration::from_millis(200);
/// Five seconds on probation, the way back, and a busy machine.
const BACK: Duration = Duration::from_secs(30);

#[test]
fn down_over_ssh_is_refused_and_with_confirm_it_comes_back_by_itself() {
    let pair = Pair::direct("lockout", crate::homes).unwrap();
    let (a, b) = (&pair.a, &pair.b);
    let sshd = Sshd::start(b.host(), a.host()).unwrap();
    let peerup = binary().unwrap().display().to_string();
    let config = b.dir().join("config.yaml").display().to_string();
    let typed = |words: &str| sshd.ssh(JOINER, &format!("{peerup} {words} --config {config} </dev/null"));

    let refused = typed("down").try_run().unwrap();
    assert!(
        refused.stderr.contains("cuts the connection") && refused.stderr.contains("--confirm 60"),
        "{refused:?}"
    );
    let id = a.id().unwrap();
    let refused = typed(&format!("auth remove {id}")).try_run().unwrap();
    assert!(refused.stderr.contains("--confirm 60"), "{refused:?}");
    for change in
        ["config set vpn.cidr 10.99.0.0/16", "config set vpn.enabled false", "config unset relay.addresses"]
    {
        let refused = typed(change).try_run().unwrap();
        assert!(
            refused.code == Some(5) && refused.stderr.contains("cuts the connection"),
            "{change}: {refused:?}"
        );
    }
    // What cuts nothing is not asked about.
    typed("config set names.friend 12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx").run().unwrap();
    assert_eq!(sshd.ssh(JOINER, "hostname").run().unwrap().stdout, "b\n");

    // The session is cut by what it asks for, so its end says nothing.
    let _cut = sshd
        .ssh(
            JOINER,
            &format!("nohup {peerup} down --confirm 5 --config {config} >/dev/null 2>&1 </dev/null &"),
        )
        .try_run();
    let answers = || pings(a.host(), JOINER, 1, AT_ONCE).is_ok_and(|pings| pings.received > 0);
    a.host().wait_until("b is gone", DIRECT, || !answers()).unwrap();
    a.host().wait_until("b is back", BACK, answers).unwrap();
    let _cut = sshd
        .ssh(
            JOINER,
            &format!(
                "nohup {peerup} config set vpn.enabled false --confirm 5 --config {config} >/dev/null 2>&1 </dev/null &"
            ),
        )
        .try_run();
    a.host().wait_until("b is gone", DIRECT, || !answers()).unwrap();
    a.host().wait_until("b is back", BACK, answers).unwrap();
    assert_eq!(sshd.ssh(JOINER, "hostname").run().unwrap().stdout, "b\n");
}
