//! How fast peerup finds, loses and finds again: the figures of `docs/performance.md`, measured by real tools.
//!
//! `peerup-figures [RUNS] [NAME…]` runs each figure, or those named, RUNS times (5 unless said) and prints median,
//! minimum and maximum. A run that fails ends the program: a figure is never made of the runs that went well.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the figures")]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use peerup_lab::peerup::{INVITER, JOINER, Node, Pair, natted};
use peerup_lab::tools::links::Counters;
use peerup_lab::tools::ping::{first_reply, longest_silence, ping};
use peerup_lab::tools::ssh::Sshd;
use peerup_lab::{Host, Lab, NatKind, Process, Segment, Show, Signal, clock, require_tun};

const RUNS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(40);
/// What a figure's ping sends, so that a silence is known to this much.
const PING_INTERVAL: Duration = Duration::from_millis(20);

struct Figure {
    name: &'static str,
    /// What is measured, and from when to when.
    text: &'static str,
    goal: &'static str,
    measure: fn() -> Result<Measured>,
}

struct Measured {
    value: f64,
    unit: &'static str,
}

const FIGURES: [Figure; 9] = [
    Figure {
        name: "warm-lan",
        text: "known peer on the LAN: from typing `peerup up` to the first reply",
        goal: "1 s",
        measure: warm_lan,
    },
    Figure {
        name: "warm-nat",
        text: "known peer, two NATs and a relay: from typing `peerup up` to the first reply",
        goal: "2 s",
        measure: warm_nat,
    },
    Figure {
        name: "direct",
        text: "two NATs: from the first reply over the relay to the direct path",
        goal: "10 s",
        measure: direct,
    },
    Figure {
        name: "blackhole",
        text: "direct path swallowed without a word: longest silence of a 20 ms ping",
        goal: "2 s",
        measure: blackhole,
    },
    Figure {
        name: "scp",
        text: "the same under scp of 64 MiB: how much longer it takes than without; the copy is compared",
        goal: "2 s + the slower path",
        measure: scp,
    },
    Figure {
        name: "roam",
        text: "one host moves behind another NAT: longest silence of a 20 ms ping",
        goal: "3 s",
        measure: roam,
    },
    Figure {
        name: "suspend",
        text: "daemon stopped for 60 s: from SIGCONT to the first reply",
        goal: "3 s",
        measure: suspend,
    },
    Figure {
        name: "relay-restart",
        text: "relayed path, relay killed and started again: from its start to the first reply",
        goal: "5 s",
        measure: relay_restart,
    },
    Figure {
        name: "idle",
        text: "idle node with 10 connected peers: IP packets a minute on its link, both ways",
        goal: "60",
        measure: idle,
    },
];

fn main() -> ExitCode {
    let Err(error) = figures() else { return ExitCode::SUCCESS };
    eprintln!("peerup-figures: {error:#}");
    ExitCode::FAILURE
}

fn figures() -> Result<()> {
    require_tun()?;
    let mut words = std::env::args().skip(1).peekable();
    let runs = words.next_if(|word| word.parse::<usize>().is_ok());
    let runs = runs.and_then(|word| word.parse().ok()).unwrap_or(RUNS);
    let names: Vec<String> = words.collect();
    let unknown = names.iter().find(|name| FIGURES.iter().all(|figure| figure.name != **name));
    if let Some(unknown) = unknown {
        bail!("no figure {unknown:?}; there are {:?}", FIGURES.map(|figure| figure.name));
    }
    println!("| figure | median | min – max | runs | goal |\n|---|---|---|---|---|");
    for figure in &FIGURES {
        if names.is_empty() || names.iter().any(|name| name == figure.name) {
            row(figure, runs).with_context(|| figure.name)?;
        }
    }
    Ok(())
}

fn row(figure: &Figure, runs: usize) -> Result<()> {
    let measured = (0..runs).map(|_| (figure.measure)()).collect::<Result<Vec<_>>>()?;
    let mut values: Vec<f64> = measured.iter().map(|measured| measured.value).collect();
    values.sort_by(f64::total_cmp);
    let (Some(first), Some(last), Some(unit)) =
        (values.first(), values.last(), measured.first().map(|measured| measured.unit))
    else {
        bail!("no runs")
    };
    let median = values[values.len() / 2];
    println!(
        "| {} | {median:.2} {unit} | {first:.2} – {last:.2} | {runs} | ≤ {} |",
        figure.text, figure.goal
    );
    Ok(())
}

fn seconds(value: Duration) -> Measured {
    Measured { value: value.as_secs_f64(), unit: "s" }
}

fn neighbours(lab: &mut Lab, internet: &Segment, number: u8) -> Result<Host> {
    let name = if number == 1 { "a" } else { "b" };
    lab.host(name)?.on(internet, &format!("203.0.113.2{number} 2001:db8::2{number}"))
}

fn homes(lab: &mut Lab, internet: &Segment, number: u8) -> Result<Host> {
    Ok(natted(lab, internet, number, NatKind::EndpointIndependent)?.1)
}

fn warm_lan() -> Result<Measured> {
    warm(&Pair::direct("warm-lan", neighbours)?)
}

fn warm_nat() -> Result<Measured> {
    warm(&Pair::direct("warm-nat", homes)?)
}

/// Both know each other; `b` runs, `a` comes up.
fn warm(pair: &Pair) -> Result<Measured> {
    pair.a.down()?;
    clock::pause(Duration::from_secs(2));
    let began = clock::now();
    pair.a.up()?;
    first_reply(pair.a.host(), JOINER, PATIENCE)?;
    Ok(seconds(began.elapsed()))
}

fn direct() -> Result<Measured> {
    let (pair, _) = Pair::running("direct", homes)?;
    Ok(seconds(pair.wait_for_class("direct", PATIENCE)?))
}

fn blackhole() -> Result<Measured> {
    let (pair, nats) = homes_with_nats("blackhole")?;
    let stream = background_ping(&pair.a)?;
    clock::pause(Duration::from_secs(2));
    let _cut = nats[0].router().cut_from(nats[1].router())?;
    let over = pair.wait_for_class("relay", PATIENCE)?;
    ensure!(over < PATIENCE, "the relay did not take over");
    clock::pause(Duration::from_secs(2));
    silence(stream)
}

fn scp() -> Result<Measured> {
    let (pair, nats) = homes_with_nats("scp")?;
    let sshd = Sshd::start(pair.b.host(), pair.a.host())?;
    let (file, copy) = (pair.a.host().dir().join("file"), pair.b.host().dir().join("copy"));
    pair.a.host().ask(&format!("head -c 67108864 /dev/urandom > {}", file.display()))?;
    let scp = || sshd.scp(&file.display().to_string(), JOINER, &copy.display().to_string());
    let undisturbed = scp().deadline(PATIENCE).run()?.took;
    let mut copying = scp().spawn()?;
    clock::pause(undisturbed / 4);
    let _cut = nats[0].router().cut_from(nats[1].router())?;
    let disturbed = copying.wait(PATIENCE)?;
    ensure!(disturbed.code == Some(0), "{disturbed}");
    let sums = [(&pair.a, &file), (&pair.b, &copy)]
        .map(|(node, file)| node.host().ask(&format!("sha256sum < {}", file.display())));
    let [sent, arrived] = sums;
    ensure!(sent? == arrived?, "the copy differs");
    Ok(seconds(disturbed.took.saturating_sub(undisturbed)))
}

fn roam() -> Result<Measured> {
    let mut elsewhere = None;
    let pair = Pair::direct("roam", |lab, internet, number| {
        if number == 1 {
            let cafe = lab.nat("cafe", NatKind::EndpointIndependent, "192.168.77.0/24")?;
            elsewhere = Some(cafe.on(internet, "203.0.113.77")?);
        }
        homes(lab, internet, number)
    })?;
    let stream = background_ping(&pair.b)?;
    clock::pause(Duration::from_secs(2));
    pair.a.host().ask("ip link set eth0 down")?;
    pair.a.host().clone().behind(&elsewhere.context("no other network")?)?;
    first_reply(pair.b.host(), INVITER, PATIENCE)?;
    clock::pause(Duration::from_secs(2));
    silence(stream)
}

fn suspend() -> Result<Measured> {
    let pair = Pair::direct("suspend", homes)?;
    pair.a.signal(Signal::SIGSTOP)?;
    clock::pause(Duration::from_secs(60));
    pair.a.signal(Signal::SIGCONT)?;
    Ok(seconds(first_reply(pair.a.host(), JOINER, PATIENCE)?))
}

fn relay_restart() -> Result<Measured> {
    let (mut pair, _) = Pair::running("relay-restart", |lab, internet, number| {
        Ok(natted(lab, internet, number, NatKind::Symmetric)?.1)
    })?;
    pair.relay.kill();
    clock::pause(Duration::from_secs(5));
    pair.relay.serve()?;
    Ok(seconds(first_reply(pair.a.host(), JOINER, PATIENCE)?))
}

/// One node that trusts ten others; each of them trusts only it. They find each other by multicast DNS.
fn idle() -> Result<Measured> {
    const PEERS: u8 = 10;
    let mut lab = Lab::new("idle")?;
    let lan = lab.segment("lan", "192.168.7.0/24")?;
    let node = |lab: &mut Lab, number: u8| -> Result<Node> {
        let host = lab.host(&format!("n{number}"))?.on(&lan, &format!("192.168.7.{}", number + 2))?;
        let node = Node::new(host, Show::Nothing);
        node.init_without_relay()?;
        node.fix_address(&format!("10.64.0.{}", number + 1))?;
        Ok(node)
    };
    let hub = node(&mut lab, 0)?;
    let peers = (1..=PEERS).map(|number| node(&mut lab, number)).collect::<Result<Vec<_>>>()?;
    for peer in &peers {
        hub.peerup(["auth", "add", &peer.id()?, "--comment", peer.name()])?;
        peer.peerup(["auth", "add", &hub.id()?, "--comment", "hub"])?;
    }
    hub.up()?;
    peers.iter().try_for_each(|peer| peer.up().map(drop))?;
    for peer in &peers {
        hub.wait_for_class(peer.name(), "direct", PATIENCE)?;
    }
    clock::pause(Duration::from_secs(60));
    let (before, cpu) = (Counters::of(hub.host(), "eth0")?, hub.cpu_seconds()?);
    clock::pause(Duration::from_secs(120));
    let (after, cpu) = (Counters::of(hub.host(), "eth0")?, hub.cpu_seconds()? - cpu);
    println!("| (idle: CPU of that node a minute) | {:.2} s | | 1 | ≤ 0.3 s |", cpu / 2.0);
    let packets = after.rx_packets - before.rx_packets + after.tx_packets - before.tx_packets;
    Ok(Measured { value: packets as f64 / 2.0, unit: "packets" })
}

fn homes_with_nats(name: &str) -> Result<(Pair, Vec<peerup_lab::Nat>)> {
    let mut nats = Vec::new();
    let pair = Pair::direct(name, |lab, internet, number| {
        let (nat, host) = natted(lab, internet, number, NatKind::EndpointIndependent)?;
        nats.push(nat);
        Ok(host)
    })?;
    Ok((pair, nats))
}

/// A ping of the other node that runs until [`silence`] ends it.
fn background_ping(from: &Node) -> Result<Process> {
    let to = if from.name() == "a" { JOINER } else { INVITER };
    ping(from.host(), to, 10_000, PING_INTERVAL).show(Show::Nothing).spawn()
}

fn silence(mut stream: Process) -> Result<Measured> {
    stream.signal(Signal::SIGINT);
    Ok(seconds(longest_silence(&stream.wait(Duration::from_secs(5))?)))
}
