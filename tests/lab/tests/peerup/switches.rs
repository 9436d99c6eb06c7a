//! A change of path under traffic: nothing lost, nothing twice, nothing out of order; and a path that is cut in the
//! middle of a transfer.

use std::time::Duration;

use peerup_lab::peerup::{JOINER, Node, Pair, natted};
use peerup_lab::tools::ping::{Pings, first_reply, gaps, ping};
use peerup_lab::tools::transfer::Transfer;
use peerup_lab::{Host, Impairment, Lab, Nat, NatKind, Segment, Show, clock};

use crate::limits::{FIRST_REPLY, RELAY_TAKES_OVER};

/// The punch is tried again after 2, 4, 8 s and so on.
const UPGRADE: Duration = Duration::from_secs(20);
/// A better family is looked for after 15 s, and again after as long, and twice as long.
const LOOKED_FOR: Duration = Duration::from_secs(50);
/// One way, on the relay's cable: a direct path overtakes what is on the way over the relay.
const FAR_MS: f64 = 40.0;

#[test]
fn from_the_relay_to_the_direct_path_no_ping_is_lost_and_no_segment_is_out_of_order() {
    let mut nats = Vec::new();
    let far = Impairment { delay_ms: FAR_MS, ..Impairment::default() };
    let pair = Pair::with_far_relay("relay-to-direct", far, homes(&mut nats)).unwrap();
    let apart = nats[0].router().cut_from(nats[1].router()).unwrap();
    pair.pair().unwrap();
    pair.up().unwrap();
    first_reply(pair.a.host(), JOINER, FIRST_REPLY * 2).unwrap();
    let transfer = transfer(&pair, 14);
    // Past the first attempts to punch, the work of starting, and TCP's slow start.
    clock::pause(Duration::from_secs(3));
    assert_eq!(pair.a.class("b"), "relay");
    let before = transfer.disorder().unwrap();
    let mut pings = ping(pair.a.host(), JOINER, 1000, Duration::from_millis(10)).spawn().unwrap();
    apart.restore().unwrap();
    let switched = pair.wait_for_class("direct", UPGRADE).unwrap();
    println!("direct {switched:?} after the way was free");
    clock::pause(Duration::from_secs(1));
    assert!(transfer.is_running(), "the transfer was over before the switch");
    let after = transfer.disorder().unwrap();
    assert!(after.risen_since(&before).is_empty(), "{before:?} {after:?}");
    transfer.arrives_whole().unwrap();
    let pings = pings.wait(Duration::from_secs(30)).unwrap();
    Pings::parse(&pings, 1000).unwrap().all_answered().unwrap();
}

#[test]
fn from_direct_ipv4_to_ipv6_that_begins_to_work_no_ping_is_lost_and_no_segment_is_out_of_order() {
    let pair = Pair::new("direct-v4-to-v6", Show::Command, crate::neighbours).unwrap();
    let no_ipv6 = pair.a.host().ignore("2001:db8::22").unwrap();
    pair.pair().unwrap();
    pair.up().unwrap();
    pair.wait_for_class("direct", UPGRADE).unwrap();
    let families = || [family(&pair.a, "b"), family(&pair.b, "a")];
    assert_eq!(families(), ["ipv4", "ipv4"]);
    // Nobody is told: no address changes, a filter goes.
    let transfer = transfer(&pair, 45);
    clock::pause(Duration::from_secs(3));
    let before = transfer.disorder().unwrap();
    let mut pings = ping(pair.a.host(), JOINER, 9000, Duration::from_millis(10)).spawn().unwrap();
    no_ipv6.restore().unwrap();
    let switched =
        pair.a.host().wait_until("IPv6 is used", LOOKED_FOR, || families() == ["ipv6", "ipv6"]).unwrap();
    println!("IPv6 {switched:?} after it began to work");
    // A busy machine sends fewer than a hundred in a second.
    clock::pause(Duration::from_secs(17).saturating_sub(switched).max(Duration::from_secs(5)));
    let after = transfer.disorder().unwrap();
    assert_eq!(after.out_of_order(), before.out_of_order(), "{before:?} {after:?}");
    pings.signal(peerup_lab::Signal::SIGINT);
    let pings = pings.wait(Duration::from_secs(5)).unwrap();
    let (lost, answered) =
        (gaps(&pings), pings.stdout.lines().filter(|line| line.contains(" bytes from ")).count());
    assert!(lost.is_empty() && answered >= 1000, "{answered} answered, lost {lost:?}");
    transfer.arrives_whole().unwrap();
}

#[test]
fn a_transfer_whose_path_is_cut_goes_on_over_the_relay_with_every_byte() {
    let mut nats = Vec::new();
    let pair = Pair::direct("cut-transfer", homes(&mut nats)).unwrap();
    let transfer = transfer(&pair, 12);
    clock::pause(Duration::from_secs(2));
    let _cut = nats[0].router().cut_from(nats[1].router()).unwrap();
    let over = pair.wait_for_class("relay", RELAY_TAKES_OVER).unwrap();
    println!("the relay took over after {over:?}");
    assert!(transfer.is_running(), "the transfer was over before the cut");
    transfer.arrives_whole().unwrap();
}

fn transfer(pair: &Pair, seconds: u32) -> Transfer {
    Transfer::start(pair.a.host(), pair.b.host(), JOINER, seconds).unwrap()
}

fn family(node: &Node, peer: &str) -> String {
    node.status().unwrap().peer(peer).unwrap().path.unwrap_or_default().family
}

/// Two homes, and their NATs kept for cutting.
fn homes(nats: &mut Vec<Nat>) -> impl FnMut(&mut Lab, &Segment, u8) -> anyhow::Result<Host> {
    |lab, internet, number| {
        let (nat, host) = natted(lab, internet, number, NatKind::EndpointIndependent)?;
        nats.push(nat);
        Ok(host)
    }
}
