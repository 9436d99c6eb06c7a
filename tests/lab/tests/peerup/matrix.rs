//! Every pair of NAT kinds, with UDP and without: who goes direct, who stays on the relay, and that both work.
//!
//! The expectations are those of RFC 4787 and RFC 5128. All boxes filter by address and port, so two hosts meet
//! when each can tell the other the port that its own packets will come from. A symmetric box (address- and
//! port-dependent mapping with random ports) cannot tell: its port towards the peer is not the one that an
//! observer saw, and the other box drops what comes from a port it has not been talking to.

use std::time::Duration;

use peerup_lab::peerup::{INVITER, JOINER, Pair, natted};
use peerup_lab::tools::ping::{first_reply, pings};
use peerup_lab::{NatKind, Show};

use crate::limits::{DIRECT, FIRST_REPLY};

/// A carrier that the first punch missed is looked for after 15 seconds and again after 30.
const CARRIERS: Duration = Duration::from_secs(60);

use Expected::{Direct, Relayed};
use NatKind::{EndpointIndependent, PortShifting, Symmetric};
use Underlay::{NoUdp, Udp};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Underlay {
    /// QUIC gets through and stands beside TCP.
    Udp,
    /// Both boxes drop UDP: only TCP is left, by simultaneous open.
    NoUdp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Direct,
    Relayed,
}

macro_rules! matrix {
    ($($name:ident: $a:ident, $b:ident, $underlay:ident => $expected:ident;)*) => {
        $(#[test]
        fn $name() {
            meet(stringify!($name), [$a, $b], $underlay, $expected);
        })*
    };
}

matrix! {
    independent_and_independent: EndpointIndependent, EndpointIndependent, Udp => Direct;
    independent_and_independent_without_udp: EndpointIndependent, EndpointIndependent, NoUdp => Direct;
    independent_and_shifting: EndpointIndependent, PortShifting, Udp => Direct;
    independent_and_shifting_without_udp: EndpointIndependent, PortShifting, NoUdp => Direct;
    shifting_and_shifting: PortShifting, PortShifting, Udp => Direct;
    shifting_and_shifting_without_udp: PortShifting, PortShifting, NoUdp => Direct;
    independent_and_symmetric: EndpointIndependent, Symmetric, Udp => Relayed;
    independent_and_symmetric_without_udp: EndpointIndependent, Symmetric, NoUdp => Relayed;
    shifting_and_symmetric: PortShifting, Symmetric, Udp => Relayed;
    shifting_and_symmetric_without_udp: PortShifting, Symmetric, NoUdp => Relayed;
    symmetric_and_symmetric: Symmetric, Symmetric, Udp => Relayed;
    symmetric_and_symmetric_without_udp: Symmetric, Symmetric, NoUdp => Relayed;
}

fn meet(name: &str, kinds: [NatKind; 2], underlay: Underlay, expected: Expected) {
    let pair = Pair::new(name, Show::Command, |lab, internet, number| {
        let (nat, host) = natted(lab, internet, number, kinds[usize::from(number - 1)])?;
        if underlay == NoUdp {
            nat.block_udp()?;
        }
        Ok(host)
    });
    let pair = pair.unwrap();
    pair.pair().unwrap();
    pair.up().unwrap();
    let first = first_reply(pair.a.host(), JOINER, FIRST_REPLY * 3).unwrap();
    println!("{name}: first reply after {first:?}");
    assert!(first <= FIRST_REPLY, "{first:?}");
    match expected {
        Direct => {
            let direct = pair.wait_for_class("direct", DIRECT).unwrap();
            println!("{name}: direct {direct:?} later");
            let told = format!("{name}: the carriers are there");
            pair.a
                .host()
                .wait_until(&told, CARRIERS, || carriers(&pair) == expected_carriers(underlay))
                .unwrap();
        }
        // Long enough for several attempts to punch, none of which may cost a packet.
        Relayed => {
            pings(pair.a.host(), JOINER, 120, Duration::from_millis(50)).unwrap().all_answered().unwrap();
            assert_eq!((pair.a.class("b"), pair.b.class("a")), ("relay".into(), "relay".into()));
        }
    }
    pings(pair.b.host(), INVITER, 20, Duration::from_millis(20)).unwrap().all_answered().unwrap();
}

/// What carries reliable frames, and which direct connection stands beside it.
fn carriers(pair: &Pair) -> (String, Option<String>) {
    let said = pair.a.peerup(["why", "b", "--json"]).unwrap().stdout;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let paths = said["paths"].as_array().unwrap();
    let carrier = |path: &serde_json::Value| path["carrier"].as_str().unwrap_or_default().to_owned();
    let chosen = paths.iter().find(|path| path["chosen"] == true).map(carrier);
    (chosen.unwrap_or_default(), paths.iter().find(|path| path["rule"] == "beside").map(carrier))
}

fn expected_carriers(underlay: Underlay) -> (String, Option<String>) {
    ("tcp-stream".to_owned(), (underlay == Udp).then(|| "quic-stream".to_owned()))
}
