//! Machines of one group: the relay's owner makes codes, and everybody who joins meets everybody else.

use std::time::Duration;

use peerup_lab::Show;
use peerup_lab::peerup::{Node, Pair};
use peerup_lab::tools::ping::first_reply;

use crate::limits::DIRECT;

/// What the relay's log says of each member that it told of the others.
const TOLD: &str = "introduced to its group";
/// A relay that comes back, and members that notice it.
const BACK: Duration = Duration::from_secs(30);

#[test]
fn three_machines_of_a_group_meet_whenever_they_join_and_a_removed_one_stays_removed() {
    let mut pair = Pair::new("group", Show::Command, crate::homes).unwrap();
    let host = pair.lab.host("c").unwrap().on(&pair.internet, "203.0.113.30").unwrap();
    let c = Node::new(host, Show::Command);
    let codes = pair.relay.pair(3).unwrap();
    let (a, b) = (&pair.a, &pair.b);

    let first = a.join(&codes[0]).unwrap();
    assert!(first.stdout.is_empty() && first.stderr.contains("2 more machines can join"), "{first}");
    a.up().unwrap();
    let second = b.join(&codes[1]).unwrap();
    assert!(second.stderr.contains(&a.id().unwrap()), "{second}");
    let late = c.join_cmd(&codes[1]).unwrap().try_run().unwrap();
    assert!(late.code == Some(6) && late.stderr.contains("hint:"), "{late}");

    // b is away while the third one joins, a is told at once.
    c.join(&codes[2]).unwrap();
    c.up().unwrap();
    let knows =
        |node: &Node, other: &Node| node.status().is_ok_and(|status| status.peer(other.name()).is_ok());
    a.host().wait_until("a knows both", DIRECT, || knows(a, b) && knows(a, &c)).unwrap();
    b.up().unwrap();
    b.host().wait_until("b knows both", DIRECT, || knows(b, a) && knows(b, &c)).unwrap();
    for (from, to) in [(a, b), (b, &c), (&c, a)] {
        let connected = || ["direct", "relay"].contains(&from.class(to.name()).as_str());
        from.host().wait_until("all are connected", DIRECT * 2, connected).unwrap();
        let status = to.status().unwrap();
        let address = status.own_ips().into_iter().find(|ip| ip.contains('.')).unwrap();
        first_reply(from.host(), &address, DIRECT).unwrap();
    }

    // The relay tells a of c again when it comes back; a was told once, and has decided.
    a.peerup(["auth", "remove", &c.id().unwrap()]).unwrap();
    let before = pair.relay.output().matches(TOLD).count();
    pair.relay.kill();
    pair.relay.serve().unwrap();
    let told_again = || pair.relay.output().matches(TOLD).count() >= before + 3;
    pair.relay.host().wait_until("the relay introduces again", BACK, told_again).unwrap();
    let keys = a.host().read(&a.dir().join("authorized_keys")).unwrap();
    assert!(keys.contains(&b.id().unwrap()) && !keys.contains(&c.id().unwrap()), "{keys}");
}

/// A relay reads a code a moment after it was made. Whoever shows it before that is hung up on.
#[test]
fn a_code_that_is_shown_before_the_relay_has_read_it_counts() {
    let pair = Pair::new("group-early", Show::Command, crate::homes).unwrap();
    let (relay, a) = (&pair.relay, &pair.a);
    let codes = relay.pair(1).unwrap();
    let said = |what: &str| relay.output().matches(what).count();
    let wait = |what, happened: &dyn Fn() -> bool| relay.host().wait_until(what, DIRECT, happened).unwrap();
    wait("the relay lets guests in", &|| said("guests=true") == 1);
    let file = relay.dir().join(".relay-pairing").display().to_string();
    relay.host().ask(&format!("mv {file} {file}.aside")).unwrap();
    wait("the relay lets no guests in", &|| said("guests=false") == 1);

    let mut joining = a.join_cmd(&codes[0]).unwrap().spawn().unwrap();
    joining.close_stdin();
    wait("the relay hung up", &|| said("inbound connection refused") == 1);
    relay.host().ask(&format!("mv {file}.aside {file}")).unwrap();
    let joined = joining.wait(DIRECT).unwrap();
    assert!(joined.code == Some(0) && joined.stderr.contains("joined group"), "{joined}");
}
