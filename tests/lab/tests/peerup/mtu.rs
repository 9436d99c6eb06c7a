//! Links that carry less, or more, than 1,500 bytes, and tell nobody.

use std::time::Duration;

use peerup_lab::Host;
use peerup_lab::peerup::{JOINER, Pair};
use peerup_lab::tools::iperf::Iperf;
use peerup_lab::tools::ping::pings;
use peerup_lab::tools::ssh::Sshd;

/// Bytes of the file that crosses.
const FILE: &str = "5000000";

#[test]
fn a_black_hole_at_1280_bytes_stops_neither_pings_nor_files() {
    black_hole("black-hole-1280", 1280);
}

#[test]
fn a_black_hole_at_1400_bytes_stops_neither_pings_nor_files() {
    black_hole("black-hole-1400", 1400);
}

/// Packets over `limit` vanish between the two hosts, and no router says so (RFC 2923, 2.1). TCP never finds out what
/// fits, so QUIC has to carry everything.
fn black_hole(name: &str, limit: u16) {
    let pair = Pair::direct(name, |lab, internet, number| {
        let host = lab.host(crate::name(number))?.on(internet, &format!("203.0.113.2{number}"))?;
        swallow(&host, limit)?;
        Ok(host)
    })
    .unwrap();
    let (a, b) = (pair.a.host(), pair.b.host());
    let sshd = Sshd::start(b, a).unwrap();
    // The first bulk shows the hole; what was sent into it is carried another way.
    pings(a, JOINER, 20, Duration::from_millis(50)).unwrap().all_answered().unwrap();
    a.run(["ping", "-c", "3", "-W", "3", "-M", "do", "-s", "1352", JOINER]).unwrap();
    let sum = format!("head -c {FILE} /dev/zero | sha256sum");
    let expected = a.ask(&sum).unwrap();
    let there = sshd.ssh(JOINER, "sha256sum").stdin(vec![0; FILE.parse().unwrap()]);
    assert_eq!(there.deadline(Duration::from_secs(60)).run().unwrap().stdout, expected);
    let back = sshd.ssh(JOINER, &format!("head -c {FILE} /dev/zero")).deadline(Duration::from_secs(60));
    assert_eq!(back.run().unwrap().stdout.len(), FILE.parse::<usize>().unwrap());
    let datagrams = Iperf::on(b).udp(a, JOINER, 5, 2).unwrap();
    assert!(datagrams.loss < 0.02, "{datagrams:?}");
}

/// Long packets are dropped as they come in, one by one: offloads would hide them in larger ones.
fn swallow(host: &Host, limit: u16) -> anyhow::Result<()> {
    host.run([
        "ethtool",
        "-K",
        "eth0",
        "tso",
        "off",
        "gso",
        "off",
        "gro",
        "off",
        "tx-udp-segmentation",
        "off",
    ])?;
    host.run(["nft", "add table netdev hole"])?;
    host.run(["nft", "add chain netdev hole in { type filter hook ingress device eth0 priority 0; }"])?;
    let from_the_peer = "ip saddr { 203.0.113.21, 203.0.113.22 }";
    host.run([
        "nft".to_owned(),
        format!("add rule netdev hole in {from_the_peer} meta length > {limit} drop"),
    ])?;
    Ok(())
}

#[test]
fn two_interfaces_with_a_large_mtu_use_it_and_a_smaller_one_is_respected() {
    let pair = Pair::new("jumbo", peerup_lab::Show::Command, |lab, internet, number| {
        let host = lab.host(crate::name(number))?.on(internet, &format!("203.0.113.2{number}"))?;
        host.run(["ip", "link", "set", "eth0", "mtu", "9000"])?;
        Ok(host)
    })
    .unwrap();
    pair.pair().unwrap();
    for node in [&pair.a, &pair.b] {
        node.peerup(["config", "set", "vpn.mtu", "8900"]).unwrap();
    }
    pair.up().unwrap();
    pair.wait_for_class("direct", Duration::from_secs(20)).unwrap();
    let a = pair.a.host();
    let large = |size: &str| a.cmd("ping").args(["-c", "2", "-W", "3", "-M", "do", "-s", size, JOINER]);
    large("8872").run().unwrap();
    Iperf::on(pair.b.host()).tcp(a, JOINER, 2).unwrap();
    // One end takes less: the other is told how much by its own kernel, at once.
    pair.b.peerup(["config", "set", "vpn.mtu", "1300"]).unwrap();
    a.wait_until("the peer's MTU is known", Duration::from_secs(20), || {
        large("8872")
            .try_run()
            .is_ok_and(|output| output.stdout.contains("mtu = 1300") || output.stdout.contains("mtu=1300"))
    })
    .unwrap();
    large("1272").run().unwrap();
    let tcp = Iperf::on(pair.b.host()).tcp(a, JOINER, 2).unwrap();
    assert!(tcp.mbit > 5.0, "{tcp:?}");
}
