//! The main story: a relay with a public address, two hosts somewhere, paired.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Node, Relay};
use crate::nat::{Nat, NatKind};
use crate::process::{Show, tail};
use crate::segment::Segment;
use crate::tools::ping::first_reply;
use crate::{Host, Impairment, Lab};

/// Addresses of the relay on the segment `internet`.
const RELAY_ADDRESSES: &str = "203.0.113.3 2001:db8::3";

/// Overlay addresses: the first inviter's, and its first joiner's.
pub const INVITER: &str = "10.64.0.1";
pub const JOINER: &str = "10.64.0.2";

/// Two nodes `a` and `b`, and their relay.
pub struct Pair {
    pub a: Node,
    pub b: Node,
    pub relay: Relay,
    pub internet: Segment,
    pub lab: Lab,
}

impl Pair {
    /// Puts a relay on the internet, and hosts `a` and `b` where `place` says (called with 1 and 2).
    pub fn new(
        name: &str,
        show: Show,
        place: impl FnMut(&mut Lab, &Segment, u8) -> Result<Host>,
    ) -> Result<Self> {
        Self::plugged(name, show, |vps, internet| vps.on(internet, RELAY_ADDRESSES), place)
    }

    /// As [`Pair::new`], with a relay at the end of a long cable.
    pub fn with_far_relay(
        name: &str,
        cable: Impairment,
        place: impl FnMut(&mut Lab, &Segment, u8) -> Result<Host>,
    ) -> Result<Self> {
        let far = |vps: Host, internet: &Segment| vps.on_impaired(internet, RELAY_ADDRESSES, cable);
        Self::plugged(name, Show::Command, far, place)
    }

    fn plugged(
        name: &str,
        show: Show,
        plug: impl FnOnce(Host, &Segment) -> Result<Host>,
        mut place: impl FnMut(&mut Lab, &Segment, u8) -> Result<Host>,
    ) -> Result<Self> {
        let mut lab = Lab::new(name)?;
        let internet = lab.segment("internet", "203.0.113.0/24 2001:db8::/64")?;
        let vps = plug(lab.host("relay")?, &internet)?;
        let a = Node::new(place(&mut lab, &internet, 1)?, show);
        let b = Node::new(place(&mut lab, &internet, 2)?, show);
        let relay = Relay::start(&vps, "203.0.113.3", show)?;
        Ok(Self { a, b, relay, internet, lab })
    }

    /// `a` is set up and authorised at the relay; `b` joins by `a`'s code.
    pub fn pair(&self) -> Result<()> {
        self.a.init(&self.relay.multiaddr())?;
        self.relay.authorize(&self.a.id()?, "a")?;
        let invitation = self.a.invite()?;
        self.b.join(&invitation.code)?;
        invitation.joined()
    }

    pub fn up(&self) -> Result<()> {
        self.a.up()?;
        self.b.up()?;
        Ok(())
    }

    /// Pairs, brings both up, and waits for the first reply; says how long that took after the second `up`.
    pub fn running(
        name: &str,
        place: impl FnMut(&mut Lab, &Segment, u8) -> Result<Host>,
    ) -> Result<(Self, Duration)> {
        let pair = Self::new(name, Show::Command, place)?;
        let first = pair.start().with_context(|| pair.logs())?;
        Ok((pair, first))
    }

    fn start(&self) -> Result<Duration> {
        self.pair()?;
        self.up()?;
        first_reply(self.a.host(), JOINER, Duration::from_secs(20))
    }

    /// As [`Pair::running`], and waits for the direct path.
    pub fn direct(name: &str, place: impl FnMut(&mut Lab, &Segment, u8) -> Result<Host>) -> Result<Self> {
        let (pair, _) = Self::running(name, place)?;
        pair.wait_for_class("direct", Duration::from_secs(20)).with_context(|| pair.logs())?;
        Ok(pair)
    }

    /// The latest lines of everybody's log.
    pub fn logs(&self) -> String {
        let nodes = [&self.a, &self.b];
        let logs = nodes.map(|node| format!("--- peerup.log of {}\n{}", node.name(), tail(&node.log(), 40)));
        format!("{}--- relay\n{}", logs.concat(), tail(&self.relay.output(), 40))
    }

    fn nothing_panicked(&self) {
        for log in [self.a.log(), self.b.log(), self.relay.output()] {
            let panics = crate::panics(&log);
            assert!(panics.is_empty(), "{panics:?}");
        }
    }

    /// Waits until both sides say that their path is of this class.
    pub fn wait_for_class(&self, class: &str, deadline: Duration) -> Result<Duration> {
        let a = self.a.wait_for_class("b", class, deadline)?;
        let b = self.b.wait_for_class("a", class, deadline.saturating_sub(a))?;
        ensure!(a + b <= deadline, "path {class} after {:?}", a + b);
        Ok(a + b)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // No story ends well in which something panicked, also where a supervisor made up for it.
            return self.nothing_panicked();
        }
        self.a.report_drops();
        self.b.report_drops();
        crate::clock::pause(crate::LOOK * 4);
        crate::say(&self.logs());
    }
}

/// A host behind its own NAT: number 1 is `a` behind `nat1`, number 2 is `b` behind `nat2`.
pub fn natted(lab: &mut Lab, internet: &Segment, number: u8, kind: NatKind) -> Result<(Nat, Host)> {
    let nat = lab.nat(&format!("nat{number}"), kind, &format!("192.168.{number}.0/24"))?;
    let nat = nat.on(internet, &format!("203.0.113.{}", 10 + number))?;
    let host = lab.host(if number == 1 { "a" } else { "b" })?.behind(&nat)?;
    Ok((nat, host))
}
