//! What people do with it: ssh, scp, iperf3; and nothing of it readable on the way.

use std::time::Duration;

use peerup_lab::peerup::{INVITER, JOINER, Pair, natted};
use peerup_lab::tools::capture::Capture;
use peerup_lab::tools::iperf::Iperf;
use peerup_lab::tools::ping::pings;
use peerup_lab::tools::ssh::Sshd;
use peerup_lab::{NatKind, Show, tools};

use crate::limits::{AT_ONCE, DIRECT};

/// Twelve bytes that no cipher produces by chance: 16 of ping's pattern repeat in every payload.
const PATTERN: &str = "9f3ac1d277e40b586d1cf0a2";
const PATTERN_BYTES: [u8; 12] = [0x9f, 0x3a, 0xc1, 0xd2, 0x77, 0xe4, 0x0b, 0x58, 0x6d, 0x1c, 0xf0, 0xa2];

#[test]
fn two_homes_use_ssh_scp_and_iperf3_over_the_direct_path() {
    let pair = Pair::direct("homes-tools", crate::homes).unwrap();
    everyday_tools(&pair);
}

#[test]
fn neighbours_on_one_lan_use_ssh_scp_and_iperf3() {
    let pair = Pair::direct("same-lan", |lab, internet, number| {
        lab.host(crate::name(number))?.on(internet, &format!("203.0.113.2{number}"))
    });
    everyday_tools(&pair.unwrap());
}

#[test]
fn an_ipv6_underlay_carries_ssh_scp_and_iperf3() {
    let pair = Pair::direct("ipv6-underlay", crate::neighbours).unwrap();
    // Not a single IPv4 packet between the two any more.
    let _a = pair.a.host().ignore("203.0.113.22").unwrap();
    let _b = pair.b.host().ignore("203.0.113.21").unwrap();
    let family = || pair.a.status().unwrap().peer("b").unwrap().path.unwrap_or_default().family;
    pair.a.host().wait_until("the path is IPv6", DIRECT, || family() == "ipv6").unwrap();
    everyday_tools(&pair);
}

#[test]
fn ssh_works_over_a_relayed_path() {
    let (pair, _) = Pair::running("relayed-ssh", |lab, internet, number| {
        Ok(natted(lab, internet, number, NatKind::Symmetric)?.1)
    })
    .unwrap();
    let sshd = Sshd::start(pair.b.host(), pair.a.host()).unwrap();
    assert_eq!(sshd.ssh(JOINER, "hostname").run().unwrap().stdout, "b\n");
    let server = Iperf::on(pair.b.host());
    let tcp = server.tcp(pair.a.host(), JOINER, 3).unwrap();
    println!("relayed iperf3 TCP: {:.0} Mbit/s", tcp.mbit);
    assert!(tcp.mbit > 20.0, "{tcp:?}");
    assert_eq!(pair.a.class("b"), "relay");
    let paths = pair.a.peerup(["paths", "--json"]).unwrap().stdout;
    let paths: serde_json::Value = serde_json::from_str(&paths).unwrap();
    let relayed = paths.as_array().unwrap().iter().find(|path| path["path_type"] == "RELAYED");
    assert!(relayed.is_some_and(|path| path["last_rtt_ms"].as_f64().is_some_and(|rtt| rtt > 0.0)), "{paths}");
}

#[test]
fn the_relay_and_the_wire_to_it_see_no_plaintext() {
    let (pair, _) = Pair::running("plaintext", |lab, internet, number| {
        Ok(natted(lab, internet, number, NatKind::Symmetric)?.1)
    })
    .unwrap();
    let inside = Capture::start(pair.a.host(), "peerup0").unwrap();
    let wire = Capture::start(pair.a.host(), "eth0").unwrap();
    let relay = Capture::start(pair.relay.host(), "eth0").unwrap();
    pair.a.host().run(["ping", "-q", "-c", "50", "-i", "0.02", "-s", "200", "-p", PATTERN, JOINER]).unwrap();
    assert_eq!(pair.a.class("b"), "relay");
    assert!(inside.stop().unwrap().contain(&PATTERN_BYTES), "the witness itself is broken");
    for capture in [wire, relay] {
        let frames = capture.stop().unwrap();
        assert!(frames.len() >= 100, "{} frames carried 50 pings", frames.len());
        assert!(!frames.contain(&PATTERN_BYTES), "plaintext on the wire");
    }
}

#[test]
fn the_direct_wire_shows_no_plaintext() {
    let pair = Pair::direct("plaintext-direct", crate::neighbours).unwrap();
    let wire = Capture::start(pair.b.host(), "eth0").unwrap();
    pair.a.host().run(["ping", "-q", "-c", "50", "-i", "0.02", "-s", "200", "-p", PATTERN, JOINER]).unwrap();
    let frames = wire.stop().unwrap();
    assert!(frames.len() >= 100 && !frames.contain(&PATTERN_BYTES));
}

#[test]
fn oversize_packets_are_answered_and_unknown_addresses_fail_at_once() {
    let pair = Pair::direct("mtu", crate::homes).unwrap();
    let a = pair.a.host();
    // 1380 is the interface's MTU: the kernel refuses more when it may not fragment, and fragments when it may.
    let fits = a.cmd("ping").args(["-c", "2", "-i", "0.1", "-M", "do", "-s", "1352", JOINER]);
    fits.run().unwrap();
    let large = a.cmd("ping").args(["-c", "2", "-i", "0.1", "-M", "dont", "-s", "4000", JOINER]);
    large.run().unwrap();
    let too_large = a.cmd("ping").args(["-c", "1", "-W", "2", "-M", "do", "-s", "1353", JOINER]);
    assert_ne!(too_large.try_run().unwrap().code, Some(0));

    let nobody = a.cmd("nc").args(["-v", "-w", "10", "10.64.7.7", "22"]).try_run().unwrap();
    assert_ne!(nobody.code, Some(0));
    assert!(nobody.took <= AT_ONCE, "{nobody}");
}

#[test]
fn overlay_addresses_of_both_families_answer() {
    let pair = Pair::direct("both-families", crate::homes).unwrap();
    let peer = pair.a.status().unwrap().peer("b").unwrap();
    assert!(peer.ips.iter().any(|ip| ip == JOINER), "{peer:?}");
    assert!(peer.ips.iter().any(|ip| ip.contains(':')), "no IPv6 address: {peer:?}");
    for ip in &peer.ips {
        pings(pair.a.host(), ip, 5, Duration::from_millis(50)).unwrap().all_answered().unwrap();
    }
    let ping = pair.a.peerup(["ping", "b", "-c", "3", "--interval", "200ms"]).unwrap();
    assert!(ping.stdout.contains("direct"), "peerup ping names the path: {ping}");
}

/// An ssh session, a file of 100 MB, TCP and UDP streams, and a login the other way.
fn everyday_tools(pair: &Pair) {
    let (a, b) = (pair.a.host(), pair.b.host());
    println!("congestion control on a: {}", a.congestion_control().unwrap());
    let sshd = Sshd::start(b, a).unwrap();
    let session = sshd.ssh(JOINER, "hostname; echo $SSH_CLIENT").run().unwrap();
    assert!(session.stdout.starts_with("b\n10.64.0.1 "), "{session}");

    a.ask("head -c 100000000 /dev/urandom > ~/file").unwrap();
    let (file, copy) = (a.dir().join("home/file"), b.dir().join("home/copy"));
    let scp = sshd.scp(file.to_str().unwrap(), JOINER, copy.to_str().unwrap());
    let scp = scp.deadline(Duration::from_secs(90)).run().unwrap();
    println!("scp of 100 MB: {:.1} s", scp.took.as_secs_f64());
    let checksum = |host: &peerup_lab::Host, file| host.ask(&format!("sha256sum < ~/{file}")).unwrap();
    assert_eq!(checksum(a, "file"), checksum(b, "copy"));

    let server = Iperf::on(b);
    let tcp = server.tcp(a, JOINER, 3).unwrap();
    let udp = server.udp(a, JOINER, 20, 2).unwrap();
    println!("iperf3 TCP: {:.0} Mbit/s; UDP at 20 Mbit/s: {:.2} % lost", tcp.mbit, udp.loss * 100.0);
    assert!(tcp.mbit > 50.0, "{tcp:?}");
    assert!(udp.loss < 0.02 && udp.mbit > 18.0, "{udp:?}");
    let back = Iperf::on(a).tcp(b, INVITER, 2).unwrap();
    assert!(back.mbit > 50.0, "{back:?}");
    assert_eq!(pair.a.class("b"), "direct");
}

#[test]
fn pings_stay_quick_beside_a_bulk_transfer() {
    let pair = Pair::direct("bulk-and-ping", crate::homes).unwrap();
    let _server = Iperf::on(pair.b.host()).serve().unwrap();
    let bulk = tools::iperf::tcp(pair.a.host(), JOINER, 4).show(Show::Nothing).spawn().unwrap();
    let pings = pings(pair.a.host(), JOINER, 60, Duration::from_millis(50)).unwrap();
    println!("ping beside bulk: {:.1} ms on average, {} lost", pings.avg_ms, pings.lost());
    assert!(bulk.is_running(), "the transfer ended before the pings did");
    // Queues are bounded by time: 50 ms hard, in each direction, plus two busy cores.
    assert!(pings.avg_ms < 150.0 && pings.lost() <= 1, "{pings:?}");
}
