//! A change of path under traffic: nothing lost, nothing twice, nothing out of order; and a path that is cut in the
//! middle of a transfer.

use std::time::Duration;

use peerup_lab::peerup::{JOINER, Node, Pair, natted};
use peerup_lab::tools::links::snmp;
use peerup_lab::tools::ping::{Pings, first_reply, gaps, ping};
use peerup_lab::{Host, Impairment, Lab, Nat, NatKind, Process, Segment, Show, clock};

use crate::limits::{FIRST_REPLY, RELAY_TAKES_OVER};

/// The punch is tried again after 2, 4, 8 s and so on.
const UPGRADE: Duration = Duration::from_secs(20);
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
    let transfer = Transfer::start(&pair, 14);
    // Past the first attempts to punch, the work of starting, and TCP's slow start.
    clock::pause(Duration::from_secs(3));
    assert_eq!(pair.a.class("b"), "relay");
    let before = Disorder::of(&pair);
    let mut pings = ping(pair.a.host(), JOINER, 1000, Duration::from_millis(10)).spawn().unwrap();
    apart.restore().unwrap();
    let switched = pair.wait_for_class("direct", UPGRADE).unwrap();
    println!("direct {switched:?} after the way was free");
    clock::pause(Duration::from_secs(1));
    assert!(transfer.is_running(), "the transfer was over before the switch");
    assert_eq!(Disorder::of(&pair), before);
    transfer.arrives_whole(&pair);
    let pings = pings.wait(Duration::from_secs(30)).unwrap();
    Pings::parse(&pings, 1000).unwrap().all_answered().unwrap();
}

#[test]
fn from_ipv4_to_ipv6_no_ping_is_lost() {
    let mut nats = Vec::new();
    let far = Impairment { delay_ms: FAR_MS, ..Impairment::default() };
    let pair = Pair::with_far_relay("v4-to-v6", far, |lab, internet, number| {
        let host = homes(&mut nats)(lab, internet, number)?;
        host.attach(internet, &format!("2001:db8::2{number}"))?;
        Ok(host)
    });
    let pair = pair.unwrap();
    // The relay is configured by its IPv4 address; it tells its other one when it is connected.
    let _apart = nats[0].router().cut_from(nats[1].router()).unwrap();
    let _apart6 = pair.a.host().ignore("2001:db8::22").unwrap();
    pair.pair().unwrap();
    pair.a.up().unwrap();
    let mut pings = ping(pair.a.host(), JOINER, 3000, Duration::from_millis(10)).spawn().unwrap();
    pair.b.up().unwrap();
    let moved = |node: &Node| node.log().contains("from=\"relay ipv4 relay-stream\" to=\"relay ipv6");
    let switched = || moved(&pair.a) && moved(&pair.b);
    pair.a.host().wait_until("packets have moved from IPv4 to IPv6", UPGRADE, switched).unwrap();
    clock::pause(Duration::from_secs(3));
    pings.signal(peerup_lab::Signal::SIGINT);
    let pings = pings.wait(Duration::from_secs(5)).unwrap();
    // Whoever pinged before `b` was up got no answer; from the first answer on there is one to each.
    let lost = gaps(&pings);
    assert!(lost.iter().copied().eq(1..=lost.len() as u32), "{lost:?}");
}

#[test]
fn a_transfer_whose_path_is_cut_goes_on_over_the_relay_with_every_byte() {
    let mut nats = Vec::new();
    let pair = Pair::direct("cut-transfer", homes(&mut nats)).unwrap();
    let transfer = Transfer::start(&pair, 12);
    clock::pause(Duration::from_secs(2));
    let _cut = nats[0].router().cut_from(nats[1].router()).unwrap();
    let over = pair.wait_for_class("relay", RELAY_TAKES_OVER).unwrap();
    println!("the relay took over after {over:?}");
    assert!(transfer.is_running(), "the transfer was over before the cut");
    transfer.arrives_whole(&pair);
}

/// Two homes, and their NATs kept for cutting.
fn homes(nats: &mut Vec<Nat>) -> impl FnMut(&mut Lab, &Segment, u8) -> anyhow::Result<Host> {
    |lab, internet, number| {
        let (nat, host) = natted(lab, internet, number, NatKind::EndpointIndependent)?;
        nats.push(nat);
        Ok(host)
    }
}

/// A TCP connection from `a` to `b` that is fed 4 KiB every few milliseconds, which no queue of a busy machine has to drop, and compared by checksum at the end.
struct Transfer {
    sender: Process,
    receiver: Process,
}

impl Transfer {
    fn start(pair: &Pair, seconds: u32) -> Self {
        let receiver = pair.b.host().cmd("sh").args(["-c", "nc -l 9000 > ~/received"]);
        let receiver = receiver.show(Show::Nothing).spawn().unwrap();
        let listening = || pair.b.host().ask("ss -Htln sport = 9000").is_ok_and(|line| !line.is_empty());
        pair.b.host().wait_until("nc listens", Duration::from_secs(5), listening).unwrap();
        let feed = format!(
            "for i in $(seq {}); do head -c 4096 /dev/urandom; sleep 0.005; done | tee ~/sent | nc -N {JOINER} 9000",
            seconds * 100
        );
        let sender = pair.a.host().cmd("sh").args(["-c", &feed]).deadline(Duration::from_secs(60));
        Self { sender: sender.show(Show::Nothing).spawn().unwrap(), receiver }
    }

    fn is_running(&self) -> bool {
        self.sender.is_running()
    }

    fn arrives_whole(mut self, pair: &Pair) {
        self.sender.wait(Duration::from_secs(60)).unwrap();
        self.receiver.wait(Duration::from_secs(10)).unwrap();
        let checksum = |host: &Host, file| host.ask(&format!("sha256sum < ~/{file}")).unwrap();
        assert_eq!(checksum(pair.a.host(), "sent"), checksum(pair.b.host(), "received"));
    }
}

/// What the kernels at both ends know of segments that were sent again, came twice or out of order: of the transfer's
/// connection, and of all. (The underlay's connections count among all, but on its wires nothing overtakes.)
#[derive(Debug, PartialEq, Eq)]
struct Disorder(Vec<(&'static str, String)>);

impl Disorder {
    const OF_THE_CONNECTION: [&str; 4] = ["bytes_retrans:", "reord_seen:", "dsack_dups:", "rcv_ooopack:"];
    const OF_ALL: [&str; 4] = ["TCPSACKReorder", "TCPTSReorder", "TCPOFOQueue", "TCPDSACKOfoSent"];

    fn of(pair: &Pair) -> Self {
        let hosts = [pair.a.host(), pair.b.host()];
        Self(
            hosts
                .into_iter()
                .flat_map(|host| Self::connection(host).into_iter().chain(Self::all(host)))
                .collect(),
        )
    }

    fn connection(host: &Host) -> Vec<(&'static str, String)> {
        let known = host.ask("ss -Htino '( sport = 9000 or dport = 9000 )'").unwrap();
        assert!(known.contains("ESTAB"), "the connection is gone");
        let value = |name: &&'static str| {
            let value = known.split_whitespace().find_map(|word| word.strip_prefix(*name));
            (*name, value.unwrap_or("0").to_owned())
        };
        Self::OF_THE_CONNECTION.iter().map(value).collect()
    }

    fn all(host: &Host) -> Vec<(&'static str, String)> {
        let count = |name: &&'static str| (*name, snmp(host, "TcpExt", name).unwrap().to_string());
        Self::OF_ALL.iter().map(count).collect()
    }
}
