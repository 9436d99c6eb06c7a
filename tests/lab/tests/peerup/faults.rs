//! What breaks, and heals by itself.

use std::time::Duration;

use peerup_lab::peerup::{INVITER, JOINER, Pair, natted};
use peerup_lab::tools::ping::{Pings, first_reply, gaps, ping, pings};
use peerup_lab::tools::ssh::Sshd;
use peerup_lab::{Nat, NatKind, Show, clock};

use crate::limits::{DIRECT, FIRST_REPLY, RELAY_RESTART_HEALS, RELAY_TAKES_OVER};

#[test]
fn traffic_on_the_relay_survives_a_restart_of_the_relay() {
    let (mut pair, _) = Pair::running("relay-restart", |lab, internet, number| {
        Ok(natted(lab, internet, number, NatKind::Symmetric)?.1)
    })
    .unwrap();
    let stream = ping(pair.a.host(), JOINER, 2000, Duration::from_millis(50)).show(Show::Nothing);
    let stream = stream.spawn().unwrap();
    pair.relay.kill();
    pair.relay.serve().unwrap();
    let healed = first_reply(pair.a.host(), JOINER, RELAY_RESTART_HEALS * 2).unwrap();
    println!("a reply {healed:?} after the relay was back");
    assert!(healed < RELAY_RESTART_HEALS, "{healed:?}");
    assert!(stream.is_running(), "ping gave up: {}", stream.output());
    pings(pair.b.host(), INVITER, 10, Duration::from_millis(50)).unwrap().all_answered().unwrap();
}

#[test]
fn a_direct_path_does_not_notice_that_the_relay_died() {
    let mut pair = Pair::direct("relay-death", crate::homes).unwrap();
    let mut stream = ping(pair.a.host(), JOINER, 250, Duration::from_millis(20)).spawn().unwrap();
    pair.relay.kill();
    let pings = Pings::parse(&stream.wait(Duration::from_secs(20)).unwrap(), 250).unwrap();
    pings.all_answered().unwrap();
    assert_eq!(pair.a.class("b"), "direct");
    pair.relay.serve().unwrap();
    let reserved = || {
        let status = pair.a.status().unwrap().0;
        status["relays"][0]["state"] == "reserved"
    };
    let healed = pair.a.host().wait_until("the reservation is back", RELAY_RESTART_HEALS, reserved).unwrap();
    println!("reserved again {healed:?} after the relay was back");
}

#[test]
fn the_relay_takes_over_when_the_direct_path_is_cut_and_hands_back_when_it_is_restored() {
    let mut nats: Vec<Nat> = Vec::new();
    let pair = Pair::direct("cut", |lab, internet, number| {
        let (nat, host) = natted(lab, internet, number, NatKind::EndpointIndependent)?;
        nats.push(nat);
        Ok(host)
    });
    let pair = pair.unwrap();
    let sshd = Sshd::start(pair.b.host(), pair.a.host()).unwrap();
    let mut session = sshd.ssh(JOINER, "echo begun; read line; echo $line ended").spawn().unwrap();
    session.wait_for_line("begun", Duration::from_secs(10)).unwrap();

    let cut = nats[0].router().cut_from(nats[1].router()).unwrap();
    let over = first_reply(pair.a.host(), JOINER, RELAY_TAKES_OVER * 2).unwrap();
    println!("the relay took over after {over:?}");
    assert!(over <= RELAY_TAKES_OVER, "{over:?}");
    pair.wait_for_class("relay", RELAY_TAKES_OVER).unwrap();
    pings(pair.a.host(), JOINER, 50, Duration::from_millis(20)).unwrap().all_answered().unwrap();

    cut.restore().unwrap();
    let stream = ping(pair.a.host(), JOINER, 5000, Duration::from_millis(20)).show(Show::Nothing);
    let mut stream = stream.spawn().unwrap();
    // Retried on events and every 30–60 s with backoff.
    let back = pair.wait_for_class("direct", Duration::from_secs(75)).unwrap();
    println!("direct again after {back:?}");
    clock::pause(Duration::from_secs(1));
    stream.signal(peerup_lab::Signal::SIGINT);
    let lost = gaps(&stream.wait(Duration::from_secs(5)).unwrap());
    assert!(lost.is_empty(), "lost while handing back: {lost:?}");

    // The session that was open all the while is still the same one.
    session.close_stdin();
    let ended = session.wait(Duration::from_secs(10)).unwrap();
    assert!(ended.stdout.contains("ended"), "{ended}");
}

#[test]
fn a_daemon_killed_hard_comes_up_again_and_the_peer_finds_it() {
    let pair = Pair::direct("kill-9", crate::homes).unwrap();
    pair.a.kill_daemon().unwrap();
    pair.a.up().unwrap();
    let back = first_reply(pair.b.host(), INVITER, DIRECT * 2).unwrap();
    println!("the peer answered {back:?} after the second up");
    assert!(back <= FIRST_REPLY + DIRECT, "{back:?}");
    pair.wait_for_class("direct", Duration::from_secs(40)).unwrap();
}

#[test]
fn a_peer_that_goes_down_is_reported_and_one_that_returns_is_found() {
    let pair = Pair::direct("come-and-go", crate::homes).unwrap();
    pair.b.down().unwrap();
    let began = clock::now();
    let lost = pings(pair.a.host(), JOINER, 3, Duration::from_millis(200)).unwrap();
    assert_eq!(lost.received, 0);
    println!("three pings to nobody took {:?}", began.elapsed());
    pair.b.up().unwrap();
    let back = first_reply(pair.a.host(), JOINER, DIRECT * 2).unwrap();
    assert!(back <= DIRECT, "{back:?}");
}
