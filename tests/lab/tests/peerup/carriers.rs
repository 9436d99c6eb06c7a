//! What the packets ride on: what the kernel says of the connections below.

use std::time::Duration;

use peerup_lab::peerup::{JOINER, Pair};
use peerup_lab::tools::iperf::{self, Iperf};
use peerup_lab::{Host, Impairment};

#[test]
fn tcp_near_by_runs_cubic_and_tcp_to_a_far_relay_runs_bbr() {
    let far = Impairment { delay_ms: 10.0, ..Impairment::default() };
    let pair = Pair::with_far_relay("congestion", far, |lab, internet, number| {
        let host = lab.host(crate::name(number))?.on(internet, &format!("203.0.113.2{number}"))?;
        // Neither of the two is what sockets get by themselves here, and only TCP is left.
        host.run(["sysctl", "-q", "-w", "net.ipv4.tcp_congestion_control=reno"])?;
        host.run(["nft", "add table inet tcp_only"])?;
        host.run(["nft", "add chain inet tcp_only out { type filter hook output priority 0; }"])?;
        host.run(["nft", "add rule inet tcp_only out oifname eth0 meta l4proto udp drop"])?;
        Ok(host)
    });
    let pair = pair.unwrap();
    pair.pair().unwrap();
    pair.up().unwrap();
    pair.wait_for_class("direct", Duration::from_secs(20)).unwrap();
    let figures = Iperf::on(pair.b.host()).tcp(pair.a.host(), JOINER, 2).unwrap();
    println!("{:.0} Mbit/s", figures.mbit);
    for (host, neighbour) in [(pair.a.host(), "203.0.113.22"), (pair.b.host(), "203.0.113.21")] {
        assert_eq!(congestion_control(host, neighbour), ["cubic"]);
        assert_eq!(congestion_control(host, "203.0.113.3"), ["bbr"]);
    }
}

/// What connections with this address run, each word once.
fn congestion_control(host: &Host, address: &str) -> Vec<String> {
    let sockets = host.ask(&format!("ss -Htino state established dst {address}")).unwrap();
    println!("{}: {}", host.name(), sockets.trim());
    let words = sockets.split_whitespace().filter(|word| ["reno", "cubic", "bbr"].contains(word));
    let mut words: Vec<String> = words.map(str::to_owned).collect();
    words.sort();
    words.dedup();
    words
}

/// A stream repeats what was lost, and whatever came behind it waits for a round trip or two. Pings do not, and the stream
/// is not slowed down by each loss.
#[test]
fn pings_do_not_wait_while_losses_of_a_transfer_are_repaired() {
    let lossy = Impairment { delay_ms: 10.0, loss: 0.005, ..Impairment::default() };
    let pair = Pair::direct("no-waiting", |lab, internet, number| {
        lab.host(crate::name(number))?.on_impaired(internet, &format!("203.0.113.2{number}"), lossy.clone())
    });
    let pair = pair.unwrap();
    let (a, b) = (pair.a.host(), pair.b.host());
    let _server = Iperf::on(b).serve().unwrap();
    // A busy machine keeps pings waiting, too, but not each time; behind the repairs of a stream a third of them waits.
    let measured = (0..3).map(|_| {
        let mut transfer = iperf::tcp(a, JOINER, 6).spawn().unwrap();
        peerup_lab::clock::pause(Duration::from_secs(1)); // slow start
        let pings = a.cmd("ping").args(["-c", "200", "-i", "0.02", "-W", "2", JOINER]).run().unwrap();
        assert_eq!(congestion_control(a, "203.0.113.22"), ["bbr"]);
        transfer.wait(Duration::from_secs(20)).unwrap();
        let mut times = round_trips(&pings.stdout);
        times.sort_by(f64::total_cmp);
        println!("{} of 200 answered, {:?} ms", times.len(), (times.first(), times.last()));
        assert!(times.len() >= 180, "{pings}");
        (times[0], times[times.len() * 9 / 10])
    });
    let mut late = Vec::new();
    for (least, most) in measured {
        if most < least * 1.5 {
            return;
        }
        late.push((least, most));
    }
    panic!("the fastest ping and that which one in ten took longer than, ms: {late:?}");
}

fn round_trips(ping: &str) -> Vec<f64> {
    let time = |line: &str| line.split_once("time=")?.1.split_whitespace().next()?.parse().ok();
    ping.lines().filter_map(time).collect()
}
