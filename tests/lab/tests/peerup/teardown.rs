//! `down` leaves the host as `up` found it, also after a crash.

use std::time::Duration;

use peerup_lab::Host;
use peerup_lab::peerup::Pair;
use peerup_lab::tools::links::{difference, exists, network_state};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn down_leaves_links_routes_and_files_as_before() {
    let pair = paired("down");
    let before = network_state(pair.a.host()).unwrap();
    pair.a.up().unwrap();
    assert!(exists(pair.a.host(), "peerup0"));
    assert_ne!(network_state(pair.a.host()).unwrap(), before);
    pair.a.down().unwrap();
    as_before(pair.a.host(), &before);
    pair.a.wait_for_no_daemon().unwrap();
    // Coming up a second time finds nothing in the way.
    pair.a.up().unwrap();
    pair.a.down().unwrap();
    as_before(pair.a.host(), &before);
}

#[test]
fn cleanup_undoes_what_a_killed_daemon_left() {
    let pair = paired("cleanup");
    let before = network_state(pair.a.host()).unwrap();
    pair.a.up().unwrap();
    pair.a.kill_daemon().unwrap();
    pair.a.peerup(["down", "--cleanup"]).unwrap();
    as_before(pair.a.host(), &before);
}

#[test]
fn sigterm_undoes_everything_too() {
    let pair = paired("sigterm");
    let before = network_state(pair.a.host()).unwrap();
    let mut daemon = pair.a.cmd(["up", "--foreground"]).unwrap().spawn().unwrap();
    let host = pair.a.host();
    host.wait_until("the interface is up", SOON * 3, || exists(host, "peerup0")).unwrap();
    pair.a.host().wait_until("the daemon answers", SOON, || pair.a.status().is_ok()).unwrap();
    daemon.signal(peerup_lab::Signal::SIGTERM);
    let output = daemon.wait(Duration::from_secs(10)).unwrap();
    assert_eq!(output.code, Some(0), "{output}");
    as_before(pair.a.host(), &before);
}

#[test]
fn a_range_in_use_is_refused_and_its_owner_named() {
    let pair = paired("range");
    let a = pair.a.host();
    a.run(["ip", "link", "add", "corp0", "type", "veth", "peer", "name", "corp1"]).unwrap();
    // Link-local addresses would come up some time later, between the two looks.
    a.run(["ip", "link", "set", "corp0", "addrgenmode", "none"]).unwrap();
    a.run(["ip", "link", "set", "corp1", "addrgenmode", "none", "up"]).unwrap();
    a.run(["ip", "link", "set", "corp0", "up"]).unwrap();
    a.run(["ip", "addr", "add", "10.64.9.1/24", "dev", "corp0"]).unwrap();
    let before = network_state(a).unwrap();
    let refused = pair.a.cmd(["up"]).unwrap().try_run().unwrap();
    assert_eq!(refused.code, Some(5), "{refused}");
    assert!(refused.stderr.contains("corp0") || refused.stderr.contains("10.64.9"), "{refused}");
    assert!(refused.stderr.contains("hint:"), "{refused}");
    as_before(a, &before);
    pair.a.wait_for_no_daemon().unwrap();
}

fn paired(name: &str) -> Pair {
    let pair = Pair::new(name, peerup_lab::Show::Command, crate::homes).unwrap();
    pair.pair().unwrap();
    pair
}

fn as_before(host: &Host, before: &str) {
    let difference = difference(before, &network_state(host).unwrap());
    assert!(difference.is_empty(), "left behind on {}:\n{difference}", host.name());
}
