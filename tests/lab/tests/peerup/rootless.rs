//! A user without any privilege: reached and reaching, with real programs on both sides.

use std::time::Duration;

use peerup_lab::peerup::{INVITER, JOINER, Node, Relay, User};
use peerup_lab::{Host, Lab, Show};

use crate::limits::FIRST_REPLY;

/// `a` is a user's node without an interface, `b` a node with one.
struct Rootless {
    a: Node,
    user: User,
    b: Node,
    _relay: Relay,
    _lab: Lab,
}

impl Rootless {
    fn running(name: &str) -> Self {
        let mut lab = Lab::new(name).unwrap();
        let internet = lab.segment("internet", "203.0.113.0/24 2001:db8::/64").unwrap();
        let vps = lab.host("relay").unwrap().on(&internet, "203.0.113.3 2001:db8::3").unwrap();
        let a = lab.host("a").unwrap().on(&internet, "203.0.113.21 2001:db8::21").unwrap();
        let b = lab.host("b").unwrap().on(&internet, "203.0.113.22 2001:db8::22").unwrap();
        let relay = Relay::start(&vps, "203.0.113.3", Show::Command).unwrap();
        let user = User::on(&a).unwrap();
        let (a, b) = (Node::of_user(user.clone(), Show::Command), Node::new(b, Show::Command));
        a.init(&relay.multiaddr()).unwrap();
        relay.authorize(&a.id().unwrap(), "a").unwrap();
        let invitation = a.invite().unwrap();
        b.join(&invitation.code).unwrap();
        invitation.joined().unwrap();
        let up = a.peerup(["up", "--userspace"]).unwrap();
        assert!(up.stdout.contains("without an interface"), "{up}");
        b.up().unwrap();
        a.wait_for_class("b", "direct", Duration::from_secs(20)).unwrap();
        Self { a, user, b, _relay: relay, _lab: lab }
    }

    fn host_a(&self) -> &Host {
        self.a.host()
    }
}

#[test]
fn a_user_without_privileges_is_reached_and_reaches() {
    let pair = Rootless::running("rootless");
    let ping = pair.b.host().cmd("ping").args(["-c", "3", "-i", "0.2", INVITER]).deadline(FIRST_REPLY).run();
    println!("{}", ping.unwrap().stdout);
    let _ = (&pair.user, pair.host_a(), JOINER);
}
