//! The laboratory itself: what it promises to the tests that stand on it.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as the tests do")]

use std::time::Duration;

use peerup_lab::tools::capture::Capture;
use peerup_lab::tools::iperf::Iperf;
use peerup_lab::tools::links::Counters;
use peerup_lab::tools::ping::{Pings, ping, pings};
use peerup_lab::tools::ssh::Sshd;
use peerup_lab::{Host, Impairment, Lab, Nat, NatKind, Process, Segment, Show, tool, wait_until};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn an_endpoint_independent_nat_keeps_the_port_for_every_destination() {
    let seen = mappings(NatKind::EndpointIndependent);
    assert_eq!(seen, ["203.0.113.1:4001", "203.0.113.1:4001"]);
}

#[test]
fn a_port_shifting_nat_maps_to_one_other_port_for_every_destination() {
    let seen = mappings(NatKind::PortShifting);
    assert_eq!(seen[0], seen[1]);
    assert!((10000..20000).contains(&port(&seen[0])), "{seen:?}");
}

#[test]
fn a_symmetric_nat_maps_to_another_port_for_every_destination() {
    let seen = mappings(NatKind::Symmetric);
    assert_ne!(seen[0], seen[1]);
    assert!(seen.iter().all(|seen| port(seen) != 4001), "{seen:?}");
}

#[test]
fn a_nat_drops_what_nobody_asked_for() {
    let net = BehindNat::new(NatKind::EndpointIndependent);
    let _server = udp(&net.s1, 4000, &[]);
    let a = udp(&net.a, 4001, &["203.0.113.3:4000"]);
    a.wait_for_line("seen as 203.0.113.1:4001", SOON).unwrap();
    // The mapping is open, yet only for the one that was spoken to.
    let stranger = udp(&net.s2, 4000, &["203.0.113.1:4001"]);
    assert!(stranger.wait_for_line("seen as", Duration::from_secs(1)).is_err());
    assert!(!a.output().contains("203.0.113.4"), "{}", a.output());
}

#[test]
fn two_endpoint_independent_nats_can_be_punched_and_two_symmetric_ones_cannot() {
    assert!(punched(NatKind::EndpointIndependent, "203.0.113.2:4001"));
    assert!(!punched(NatKind::Symmetric, "203.0.113.2:4001"));
}

#[test]
fn a_nat_that_blocks_udp_lets_tcp_pass() {
    let mut lab = Lab::new("udp-blocked").unwrap();
    let internet = lab.segment("internet", "203.0.113.0/24").unwrap();
    let server = lab.host("s").unwrap().on(&internet, "203.0.113.3").unwrap();
    let nat = lab.nat("nat", NatKind::EndpointIndependent, "192.168.1.0/24").unwrap();
    let nat = nat.on(&internet, "203.0.113.1").unwrap().block_udp().unwrap();
    let a = lab.host("a").unwrap().behind(&nat).unwrap();
    let _answers = udp(&server, 4000, &[]);
    assert!(udp(&a, 4001, &["203.0.113.3:4000"]).wait_for_line("seen", Duration::from_secs(1)).is_err());
    let sshd = Sshd::start(&server, &a).unwrap();
    assert_eq!(sshd.ssh("203.0.113.3", "hostname").run().unwrap().stdout, "s\n");
}

#[test]
fn a_host_behind_two_nats_is_seen_as_the_carriers_address() {
    let mut lab = Lab::new("cgnat").unwrap();
    let internet = lab.segment("internet", "203.0.113.0/24").unwrap();
    let server = lab.host("s").unwrap().on(&internet, "203.0.113.3").unwrap();
    let carrier = lab.nat("carrier", NatKind::PortShifting, "100.64.0.0/24").unwrap();
    let carrier = carrier.on(&internet, "203.0.113.1").unwrap();
    let home =
        lab.nat("home", NatKind::EndpointIndependent, "192.168.1.0/24").unwrap().behind(&carrier).unwrap();
    let a = lab.host("a").unwrap().behind(&home).unwrap();
    let _answers = udp(&server, 4000, &[]);
    let seen = udp(&a, 4001, &["203.0.113.3:4000"]).wait_for_line("seen as", SOON).unwrap();
    assert!(seen.starts_with("seen as 203.0.113.1:1"), "{seen}");
}

#[test]
fn segments_carry_both_families_and_ssh_works_on_them() {
    let mut lab = Lab::new("dual-stack").unwrap();
    let (a, b) =
        neighbours(&mut lab, "10.9.0.0/24 2001:db8::/64", ["10.9.0.1 2001:db8::1", "10.9.0.2 2001:db8::2"]);
    for address in ["10.9.0.2", "2001:db8::2"] {
        pings(&a, address, 3, Duration::from_millis(20)).unwrap().all_answered().unwrap();
    }
    let allowed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").unwrap();
    let cubic = a.congestion_control().unwrap() == "cubic";
    assert_eq!(cubic, allowed.split_whitespace().any(|name| name == "cubic"), "cubic wherever it is allowed");
    let sshd = Sshd::start(&b, &a).unwrap();
    assert_eq!(sshd.ssh("2001:db8::2", "hostname; id -un").run().unwrap().stdout.lines().next(), Some("b"));
    a.write(&a.dir().join("file"), vec![7; 1 << 20]).unwrap();
    let (file, target) = (a.dir().join("file"), b.dir().join("copy"));
    sshd.scp(file.to_str().unwrap(), "10.9.0.2", target.to_str().unwrap()).run().unwrap();
    assert_eq!(std::fs::read(b.outside(&target)).unwrap(), vec![7; 1 << 20]);
}

#[test]
fn a_capture_sees_plaintext_and_counters_count_it() {
    let mut lab = Lab::new("capture").unwrap();
    let (a, b) = neighbours(&mut lab, "10.9.0.0/24", ["10.9.0.1", "10.9.0.2"]);
    let capture = Capture::start(&b, "eth0").unwrap();
    let before = Counters::of(&b, "eth0").unwrap();
    // The pattern c0ffee… in every payload.
    a.run(["ping", "-c", "3", "-i", "0.05", "-p", "c0ffee11", "10.9.0.2"]).unwrap();
    let frames = capture.stop().unwrap();
    assert!(frames.contain(&[0xc0, 0xff, 0xee, 0x11, 0xc0, 0xff, 0xee, 0x11]));
    assert!(!frames.contain(&[0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef]));
    assert!(Counters::of(&b, "eth0").unwrap().bytes_since(&before) >= 6 * 98);
}

#[test]
fn a_cut_is_silent_and_ends_when_restored() {
    let mut lab = Lab::new("cut").unwrap();
    let internet = lab.segment("lan", "10.9.0.0/24").unwrap();
    let a = lab.host("a").unwrap();
    let link = a.attach(&internet, "10.9.0.1").unwrap();
    let b = lab.host("b").unwrap().on(&internet, "10.9.0.2").unwrap();
    let cut = a.cut_from(&b).unwrap();
    assert!(!replies(&a));
    cut.restore().unwrap();
    assert!(replies(&a));
    let unplugged = a.unplug(&link).unwrap();
    assert!(!replies(&a));
    unplugged.restore().unwrap();
    wait_until("a reply after the cable is back", SOON, || replies(&a)).unwrap();
}

#[test]
fn an_impaired_wire_delays_as_asked() {
    let mut lab = Lab::new("delay").unwrap();
    let faults = Impairment { delay_ms: 20.0, jitter_ms: 4.0, ..Impairment::default() };
    let (a, _b) = wired(&mut lab, &faults);
    let pings = pings(&a, "10.9.0.2", 50, Duration::from_millis(20)).unwrap();
    pings.all_answered().unwrap();
    // Two crossings of 20 ms, each with 0–4 ms of jitter: 44 ms on average, and more where this machine is busy.
    assert!((40.0..44.0).contains(&pings.min_ms) && pings.avg_ms >= 42.0, "{pings:?}");
}

#[test]
fn an_impaired_wire_loses_as_asked() {
    let mut lab = Lab::new("loss").unwrap();
    let (a, _b) = wired(&mut lab, &Impairment { loss: 0.1, ..Impairment::default() });
    let pings = pings(&a, "10.9.0.2", 500, Duration::from_millis(4)).unwrap();
    // Two crossings: 19 % of 500; four standard deviations are 35.
    assert!((60..=130).contains(&pings.lost()), "{pings:?}");
}

#[test]
fn an_impaired_wire_limits_the_rate_and_a_clean_one_does_not_much() {
    let mut lab = Lab::new("rate").unwrap();
    let (a, b) = wired(&mut lab, &Impairment { rate_mbit: 20.0, delay_ms: 2.0, ..Impairment::default() });
    let server = Iperf::on(&b);
    let tcp = server.tcp(&a, "10.9.0.2", 3).unwrap();
    assert!((16.0..20.5).contains(&tcp.mbit), "{tcp:?}");
    let udp = server.udp(&a, "10.9.0.2", 10, 1).unwrap();
    assert!((9.0..10.5).contains(&udp.mbit) && udp.loss < 0.01, "{udp:?}");

    let (c, d) = (lab.host("c").unwrap(), lab.host("d").unwrap());
    lab.wire((&c, "10.8.0.1/24"), (&d, "10.8.0.2/24"), &Impairment::default()).unwrap();
    let clean = Iperf::on(&d).tcp(&c, "10.8.0.2", 2).unwrap();
    assert!(clean.mbit > 60.0, "{clean:?}");
}

#[test]
fn an_impaired_cable_joins_a_host_to_a_segment() {
    let mut lab = Lab::new("impaired-cable").unwrap();
    let lan = lab.segment("lan", "10.9.0.0/24 2001:db8::/64").unwrap();
    let faults = Impairment { delay_ms: 10.0, ..Impairment::default() };
    let a = lab.host("a").unwrap().on_impaired(&lan, "10.9.0.1 2001:db8::1", faults).unwrap();
    let _b = lab.host("b").unwrap().on(&lan, "10.9.0.2 2001:db8::2").unwrap();
    for address in ["10.9.0.2", "2001:db8::2"] {
        let pings = pings(&a, address, 10, Duration::from_millis(20)).unwrap();
        assert!(pings.lost() == 0 && pings.min_ms >= 20.0, "{pings:?}");
    }
}

#[test]
fn hosts_have_names_and_files_of_their_own() {
    let mut lab = Lab::new("machines").unwrap();
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    assert_eq!(a.run(["hostname"]).unwrap().stdout, "a\n");
    a.ask("echo 10.1.1.1 only-here >> /etc/hosts; touch /run/only-here").unwrap();
    assert!(a.read("/etc/hosts".as_ref()).unwrap().contains("only-here"));
    assert!(!b.read("/etc/hosts".as_ref()).unwrap().contains("only-here"));
    assert!(b.ask("test -e /run/only-here").is_err());
    assert!(!std::fs::read_to_string("/etc/hosts").unwrap().contains("only-here"));
}

#[test]
fn dropping_a_process_ends_the_program_in_its_namespace() {
    let mut lab = Lab::new("drop").unwrap();
    let a = lab.host("a").unwrap();
    let sleeper = a.cmd("sleep").arg("777").spawn().unwrap();
    let there = || a.programs().iter().any(|(_, line)| line == "sleep 777");
    wait_until("the program runs", SOON, there).unwrap();
    drop(sleeper);
    wait_until("the program is gone", SOON, || !there()).unwrap();
}

#[test]
fn a_daemon_that_outlives_its_parent_leaves_no_zombie() {
    let mut lab = Lab::new("orphan").unwrap();
    let a = lab.host("a").unwrap();
    a.ask("setsid sleep 778 >/dev/null 2>&1 </dev/null &").unwrap();
    let find = || a.programs().into_iter().find(|(_, line)| line == "sleep 778").map(|(pid, _)| pid);
    wait_until("the daemon runs", SOON, || find().is_some()).unwrap();
    let entry = format!("/proc/{}", find().unwrap());
    assert_eq!(a.kill_9("sleep 778"), 1);
    wait_until("its entry is gone", SOON, || !std::path::Path::new(&entry).exists()).unwrap();
}

#[test]
fn nothing_is_left_of_a_laboratory_whose_process_is_killed() {
    let before = host_state();
    let mut victim = std::process::Command::new(tool().unwrap());
    let mut victim = victim.arg("hold").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let said = std::io::BufReader::new(victim.stdout.take().unwrap());
    let pids = std::io::BufRead::lines(said).map_while(Result::ok);
    let pids = pids.filter_map(|line| line.strip_prefix("HOLDS ").map(str::to_owned)).next().unwrap();
    let alive = |pid: &&str| std::path::Path::new("/proc").join(pid).exists();
    assert!(pids.split(' ').filter(alive).count() >= 3, "{pids}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_until("every process is gone", SOON, || pids.split(' ').filter(alive).count() == 0).unwrap();
    wait_until("links and mounts are as before", SOON, || host_state() == before).unwrap();
}

/// One host behind a NAT, and two servers outside.
struct BehindNat {
    _lab: Lab,
    a: Host,
    s1: Host,
    s2: Host,
}

impl BehindNat {
    fn new(kind: NatKind) -> Self {
        let mut lab = Lab::new("behind-nat").unwrap();
        let internet = lab.segment("internet", "203.0.113.0/24").unwrap();
        let s1 = lab.host("s1").unwrap().on(&internet, "203.0.113.3").unwrap();
        let s2 = lab.host("s2").unwrap().on(&internet, "203.0.113.4").unwrap();
        let (_nat, a) = natted(&mut lab, &internet, 1, kind);
        Self { _lab: lab, a, s1, s2 }
    }
}

/// What two servers see of one socket behind a NAT.
fn mappings(kind: NatKind) -> [String; 2] {
    let net = BehindNat::new(kind);
    let _servers = [udp(&net.s1, 4000, &[]), udp(&net.s2, 4000, &[])];
    let a = udp(&net.a, 4001, &["203.0.113.3:4000", "203.0.113.4:4000"]);
    ["203.0.113.3", "203.0.113.4"].map(|server| {
        let line = a.wait_for_line(&format!("by {server}"), SOON).unwrap();
        line.split(' ').nth(2).unwrap().to_owned()
    })
}

/// Whether two hosts behind NATs of one kind hear each other when both speak to the other's unmapped port.
fn punched(kind: NatKind, other: &str) -> bool {
    let mut lab = Lab::new("punch").unwrap();
    let internet = lab.segment("internet", "203.0.113.0/24").unwrap();
    let (_nat1, a) = natted(&mut lab, &internet, 1, kind);
    let (_nat2, b) = natted(&mut lab, &internet, 2, kind);
    let a = udp(&a, 4001, &[other]);
    let _b = udp(&b, 4001, &["203.0.113.1:4001"]);
    a.wait_for_line("seen as", Duration::from_secs(2)).is_ok()
}

fn natted(lab: &mut Lab, internet: &Segment, number: u8, kind: NatKind) -> (Nat, Host) {
    let nat = lab.nat(&format!("nat{number}"), kind, &format!("192.168.{number}.0/24")).unwrap();
    let nat = nat.on(internet, &format!("203.0.113.{number}")).unwrap();
    let host = lab.host(&format!("h{number}")).unwrap().behind(&nat).unwrap();
    (nat, host)
}

fn neighbours(lab: &mut Lab, prefixes: &str, addresses: [&str; 2]) -> (Host, Host) {
    let lan = lab.segment("lan", prefixes).unwrap();
    let a = lab.host("a").unwrap().on(&lan, addresses[0]).unwrap();
    let b = lab.host("b").unwrap().on(&lan, addresses[1]).unwrap();
    (a, b)
}

fn wired(lab: &mut Lab, faults: &Impairment) -> (Host, Host) {
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    lab.wire((&a, "10.9.0.1/24"), (&b, "10.9.0.2/24"), faults).unwrap();
    (a, b)
}

fn udp(host: &Host, port: u16, destinations: &[&str]) -> Process {
    let tool = tool().unwrap();
    let cmd = host.cmd(tool.to_str().unwrap()).args(["udp", &port.to_string()]);
    let process = cmd.args(destinations.iter().copied()).show(Show::Nothing).spawn().unwrap();
    process.wait_for_line("ready", SOON).unwrap();
    process
}

fn port(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

fn replies(a: &Host) -> bool {
    let output = ping(a, "10.9.0.2", 1, Duration::from_millis(10)).try_run().unwrap();
    Pings::parse(&output, 1).unwrap().received == 1
}

/// Links and mounts of the machine outside of any laboratory.
fn host_state() -> String {
    let links = std::fs::read_to_string("/proc/net/dev").unwrap();
    let names = links.lines().filter_map(|line| line.split(':').next());
    let links: Vec<_> = names.map(str::trim).collect();
    format!("{links:?}\n{}", std::fs::read_to_string("/proc/self/mounts").unwrap())
}
