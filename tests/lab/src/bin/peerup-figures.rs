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
use peerup_lab::tools::ping::{first_reply, gaps, longest_silence, ping};
use peerup_lab::tools::ssh::Sshd;
use peerup_lab::tools::transfer::Transfer;
use peerup_lab::{Cut, Host, Lab, NatKind, Process, Segment, Show, Signal, clock, require_tun};

const RUNS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(40);
/// What a figure's ping sends, so that a silence is known to this much.
const PING_INTERVAL: Duration = Duration::from_millis(20);

struct Figure {
    name: &'static str,
    /// What one run yields, in the order of the rows.
    measure: fn() -> Result<Vec<f64>>,
    rows: &'static [Row],
}

struct Row {
    /// What is measured, and from when to when.
    text: &'static str,
    unit: &'static str,
    goal: &'static str,
}

const fn row(text: &'static str, unit: &'static str, goal: &'static str) -> Row {
    Row { text, unit, goal }
}

const FIGURES: [Figure; 11] = [
    Figure {
        name: "warm-lan",
        measure: warm_lan,
        rows: &[row("known peer on the LAN: from typing `peerup up` to the first reply", "s", "1 s")],
    },
    Figure {
        name: "warm-nat",
        measure: warm_nat,
        rows: &[row(
            "known peer, two NATs and a relay: from typing `peerup up` to the first reply",
            "s",
            "2 s",
        )],
    },
    Figure {
        name: "direct",
        measure: direct,
        rows: &[row("two NATs: from the first reply over the relay to the direct path", "s", "10 s")],
    },
    Figure {
        name: "switch-direct",
        measure: switch_direct,
        rows: &[
            row("relay to direct under pings every 10 ms, at least 1,000: pings lost", "", "0"),
            row("the same: segments of a TCP flow out of order", "", "0"),
        ],
    },
    Figure {
        name: "switch-ipv6",
        measure: switch_ipv6,
        rows: &[
            row("direct IPv4 to direct IPv6 under pings every 10 ms, at least 1,000: pings lost", "", "0"),
            row("the same: segments of a TCP flow out of order", "", "0"),
        ],
    },
    Figure {
        name: "blackhole",
        measure: blackhole,
        rows: &[row("direct path swallowed without a word: longest silence of a 20 ms ping", "s", "2 s")],
    },
    Figure {
        name: "scp",
        measure: scp,
        rows: &[row(
            "the same under scp of 64 MiB: how much longer it takes than without; the copy is compared",
            "s",
            "2 s + the slower path",
        )],
    },
    Figure {
        name: "roam",
        measure: roam,
        rows: &[row("one host moves behind another NAT: longest silence of a 20 ms ping", "s", "3 s")],
    },
    Figure {
        name: "suspend",
        measure: suspend,
        rows: &[row("daemon stopped for 60 s: from SIGCONT to the first reply", "s", "3 s")],
    },
    Figure {
        name: "relay-restart",
        measure: relay_restart,
        rows: &[row(
            "relayed path, relay killed and started again: from its start to the first reply",
            "s",
            "5 s",
        )],
    },
    Figure {
        name: "idle",
        measure: idle,
        rows: &[
            row(
                "idle node with 10 connected peers: IP packets a minute on its link, both ways",
                "packets",
                "60",
            ),
            row("the same: CPU time of that node a minute", "s", "0.3 s"),
        ],
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
            rows(figure, runs).with_context(|| figure.name)?;
        }
    }
    Ok(())
}

fn rows(figure: &Figure, runs: usize) -> Result<()> {
    let measured = (0..runs).map(|_| (figure.measure)()).collect::<Result<Vec<_>>>()?;
    for (index, Row { text, unit, goal }) in figure.rows.iter().enumerate() {
        let values = measured.iter().map(|run| run.get(index).copied().context("a run without this figure"));
        let mut values = values.collect::<Result<Vec<f64>>>()?;
        values.sort_by(f64::total_cmp);
        let (Some(first), Some(last)) = (values.first(), values.last()) else { bail!("no runs") };
        let median = values[values.len() / 2];
        println!("| {text} | {median:.2} {unit} | {first:.2} – {last:.2} | {runs} | ≤ {goal} |");
    }
    Ok(())
}

fn seconds(value: Duration) -> Vec<f64> {
    vec![value.as_secs_f64()]
}

fn neighbours(lab: &mut Lab, internet: &Segment, number: u8) -> Result<Host> {
    let name = if number == 1 { "a" } else { "b" };
    lab.host(name)?.on(internet, &format!("203.0.113.2{number} 2001:db8::2{number}"))
}

fn homes(lab: &mut Lab, internet: &Segment, number: u8) -> Result<Host> {
    Ok(natted(lab, internet, number, NatKind::EndpointIndependent)?.1)
}

fn warm_lan() -> Result<Vec<f64>> {
    warm(&Pair::direct("warm-lan", neighbours)?)
}

fn warm_nat() -> Result<Vec<f64>> {
    warm(&Pair::direct("warm-nat", homes)?)
}

/// Both know each other; `b` runs, `a` comes up.
fn warm(pair: &Pair) -> Result<Vec<f64>> {
    pair.a.down()?;
    clock::pause(Duration::from_secs(2));
    let began = clock::now();
    pair.a.up()?;
    first_reply(pair.a.host(), JOINER, PATIENCE)?;
    Ok(seconds(began.elapsed()))
}

fn direct() -> Result<Vec<f64>> {
    let (pair, _) = Pair::running("direct", homes)?;
    Ok(seconds(pair.wait_for_class("direct", PATIENCE)?))
}

fn switch_direct() -> Result<Vec<f64>> {
    let mut nats = Vec::new();
    let pair = Pair::new("switch-direct", Show::Nothing, |lab, internet, number| {
        let (nat, host) = natted(lab, internet, number, NatKind::EndpointIndependent)?;
        nats.push(nat);
        Ok(host)
    })?;
    let apart = nats[0].router().cut_from(nats[1].router())?;
    pair.pair()?;
    pair.up()?;
    first_reply(pair.a.host(), JOINER, PATIENCE)?;
    switched(&pair, apart, || Ok(pair.a.class("b") == "direct" && pair.b.class("a") == "direct"))
}

fn switch_ipv6() -> Result<Vec<f64>> {
    let pair = Pair::new("switch-ipv6", Show::Nothing, neighbours)?;
    let no_ipv6 = pair.a.host().ignore("2001:db8::22")?;
    pair.pair()?;
    pair.up()?;
    pair.wait_for_class("direct", PATIENCE)?;
    let family = |node: &Node, peer| -> Result<String> {
        Ok(node.status()?.peer(peer)?.path.unwrap_or_default().family)
    };
    switched(&pair, no_ipv6, || Ok(family(&pair.a, "b")? == "ipv6" && family(&pair.b, "a")? == "ipv6"))
}

/// Lets the better path work again, and counts what its use costs: pings lost, segments in disorder.
fn switched(pair: &Pair, obstacle: Cut, better: impl Fn() -> Result<bool>) -> Result<Vec<f64>> {
    // Longer than a better path may take to be looked for, and found.
    const LONGEST: u32 = 90;
    let transfer = Transfer::start(pair.a.host(), pair.b.host(), JOINER, LONGEST)?;
    clock::pause(Duration::from_secs(3));
    let (before, began) = (transfer.disorder()?, clock::now());
    let stream = ping(pair.a.host(), JOINER, LONGEST * 100, Duration::from_millis(10));
    let mut stream = stream.show(Show::Nothing).spawn()?;
    obstacle.restore()?;
    let deadline = Duration::from_secs(u64::from(LONGEST) / 2);
    pair.a.host().wait_until("the better path is used", deadline, || better().unwrap_or(false))?;
    // At least 1,000 pings, also on a busy machine.
    clock::pause(Duration::from_secs(17).saturating_sub(began.elapsed()).max(Duration::from_secs(2)));
    let disorder = transfer.disorder()?.out_of_order() - before.out_of_order();
    stream.signal(Signal::SIGINT);
    let lost = gaps(&stream.wait(Duration::from_secs(5))?).len();
    Ok(vec![lost as f64, disorder as f64])
}

fn blackhole() -> Result<Vec<f64>> {
    let (pair, nats) = homes_with_nats("blackhole")?;
    let stream = background_ping(&pair.a)?;
    clock::pause(Duration::from_secs(2));
    let _cut = nats[0].router().cut_from(nats[1].router())?;
    let over = pair.wait_for_class("relay", PATIENCE)?;
    ensure!(over < PATIENCE, "the relay did not take over");
    clock::pause(Duration::from_secs(2));
    silence(stream)
}

fn scp() -> Result<Vec<f64>> {
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

fn roam() -> Result<Vec<f64>> {
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

fn suspend() -> Result<Vec<f64>> {
    let pair = Pair::direct("suspend", homes)?;
    pair.a.signal(Signal::SIGSTOP)?;
    clock::pause(Duration::from_secs(60));
    pair.a.signal(Signal::SIGCONT)?;
    Ok(seconds(first_reply(pair.a.host(), JOINER, PATIENCE)?))
}

fn relay_restart() -> Result<Vec<f64>> {
    let (mut pair, _) = Pair::running("relay-restart", |lab, internet, number| {
        Ok(natted(lab, internet, number, NatKind::Symmetric)?.1)
    })?;
    pair.relay.kill();
    clock::pause(Duration::from_secs(5));
    pair.relay.serve()?;
    Ok(seconds(first_reply(pair.a.host(), JOINER, PATIENCE)?))
}

/// One node that trusts ten others; each of them trusts only it. They find each other by multicast DNS.
fn idle() -> Result<Vec<f64>> {
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
    for line in [
        "add table inet idle",
        "add counter inet idle seen",
        "add chain inet idle in { type filter hook prerouting priority -400; }",
        "add chain inet idle out { type filter hook postrouting priority 400; }",
        "add rule inet idle in iifname eth0 counter name seen",
        "add rule inet idle out oifname eth0 counter name seen",
    ] {
        hub.host().run(["nft", line])?;
    }
    // What others can reach has been tested by then, and nobody is probed any more.
    clock::pause(Duration::from_secs(240));
    let (before, cpu) = (ip_packets(hub.host())?, hub.cpu_seconds()?);
    clock::pause(Duration::from_secs(120));
    let (packets, cpu) = (ip_packets(hub.host())? - before, hub.cpu_seconds()? - cpu);
    Ok(vec![packets as f64 / 2.0, cpu / 2.0])
}

/// IP packets of both versions that the counter of [`idle`] has seen.
fn ip_packets(host: &Host) -> Result<u64> {
    let seen = host.ask("nft list counter inet idle seen | awk '/packets/ { print $2 }'")?;
    seen.trim().parse().context("the counter of nft")
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

fn silence(mut stream: Process) -> Result<Vec<f64>> {
    stream.signal(Signal::SIGINT);
    Ok(seconds(longest_silence(&stream.wait(Duration::from_secs(5))?)))
}
