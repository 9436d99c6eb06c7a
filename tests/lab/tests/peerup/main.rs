//! peerup as its users see it: the real binary on a real kernel, with real tools as witnesses. One story per test.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as the tests do")]
#![expect(clippy::print_stdout, reason = "figures for the reader of a test's output")]

mod bench;
mod carriers;
mod disk;
mod ends;
mod faults;
mod groups;
mod idle;
mod kinds;
mod lan;
mod limits;
mod lockout;
mod mallory;
mod matrix;
mod mtu;
mod observability;
mod pairing;
mod paths;
mod peerrelay;
mod proxied;
mod reach;
mod refusals;
mod rootless;
mod service;
mod services;
mod switches;
mod teardown;
mod traffic;
mod whole;
mod why;

use anyhow::Result;
use peerup_lab::peerup::natted;
use peerup_lab::{Host, Lab, NatKind, Segment};

fn name(number: u8) -> &'static str {
    if number == 1 { "a" } else { "b" }
}

/// Each host behind its own endpoint-independent NAT: the usual two homes.
fn homes(lab: &mut Lab, internet: &Segment, number: u8) -> Result<Host> {
    Ok(natted(lab, internet, number, NatKind::EndpointIndependent)?.1)
}

/// Both hosts and the relay on one segment, both families.
fn neighbours(lab: &mut Lab, internet: &Segment, number: u8) -> Result<Host> {
    lab.host(name(number))?.on(internet, &format!("203.0.113.2{number} 2001:db8::2{number}"))
}
