//! How much of the wire peerup leaves to one TCP connection, in each of the ways there are: as shares of what the same
//! hosts carry without it, measured in turns in one run.
//!
//! `peerup-throughput [ROUNDS] [NAME…]` measures each way, or those named, ROUNDS times and prints the medians.
//! `a` and `b` have interfaces, `c` has none; all are on one segment.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "this program prints its result")]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use peerup_lab::peerup::{INVITER, JOINER, Node, Pair};
use peerup_lab::{Host, Process, Show, tool};

/// Of each measurement.
const SECONDS: u32 = 5;
const ROUNDS: usize = 5;
const PORT: &str = "5201";
/// Where `peerup proxy` and the SOCKS5 proxies listen.
const LOCAL: &str = "5301";
const SOCKS: &str = "1080";
const WITHOUT_INTERFACE: &str = "10.64.0.3";
const SOON: Duration = Duration::from_secs(30);

struct Place {
    pair: Pair,
    c: Node,
    _running: Vec<Process>,
}

struct Way {
    name: &'static str,
    /// From `a` unless it says otherwise.
    text: &'static str,
    run: fn(&Place) -> Result<f64>,
}

const WAYS: [Way; 7] = [
    Way { name: "raw", text: "the wire", run: |place| flood(place.a(), "203.0.113.22", None) },
    Way { name: "tunnel", text: "interface to interface", run: |place| flood(place.a(), JOINER, None) },
    Way {
        name: "proxy",
        text: "`peerup proxy`",
        run: |place| flood_port(place.a(), "127.0.0.1", LOCAL, None),
    },
    Way {
        name: "socks",
        text: "SOCKS5, interface to interface",
        run: |place| flood(place.a(), JOINER, Some(SOCKS)),
    },
    Way {
        name: "userspace-in",
        text: "interface to none",
        run: |place| flood(place.a(), WITHOUT_INTERFACE, None),
    },
    Way {
        name: "userspace-out",
        text: "SOCKS5, none to interface",
        run: |place| flood(place.c.host(), INVITER, Some(SOCKS)),
    },
    Way { name: "exec", text: "`peerup exec`, none to interface", run: exec },
];

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1).peekable();
    let rounds =
        words.next_if(|word| word.parse::<usize>().is_ok()).map_or(Ok(ROUNDS), |word| word.parse())?;
    let named: Vec<String> = words.collect();
    let ways: Vec<&Way> =
        WAYS.iter().filter(|way| named.is_empty() || named.iter().any(|name| name == way.name)).collect();
    ensure!(rounds > 0 && !ways.is_empty(), "usage: peerup-throughput [ROUNDS] [NAME…]");
    let place = Place::new()?;
    let mut rates = vec![Vec::new(); ways.len()];
    for round in 1..=rounds {
        for (way, rates) in ways.iter().zip(&mut rates) {
            let rate = (way.run)(&place).with_context(|| format!("{} in round {round}", way.name))?;
            println!("round {round}: {} {rate:.0} Mbit/s", way.name);
            rates.push(rate);
        }
    }
    print_table(&ways, &rates);
    Ok(())
}

fn print_table(ways: &[&Way], rates: &[Vec<f64>]) {
    println!("| way | | Mbit/s: median, least, most | of raw | of the tunnel |\n|---|---|---|---|---|");
    for (way, own) in ways.iter().zip(rates) {
        // Of each round by itself: a machine is faster in one minute than in the next.
        let share = |name: &str| {
            let whole = &rates[ways.iter().position(|way| way.name == name)?];
            Some(spread(own.iter().zip(whole).map(|(own, whole)| own / whole)).1)
        };
        let share = |name| share(name).map_or("-".to_owned(), |share| format!("{share:.2}"));
        let (least, median, most) = spread(own.iter().copied());
        println!(
            "| {} | {} | {median:.0}, {least:.0}, {most:.0} | {} | {} |",
            way.name,
            way.text,
            share("raw"),
            share("tunnel")
        );
    }
}

/// Least, median and most.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

impl Place {
    fn new() -> Result<Self> {
        let mut pair = Pair::new("throughput", Show::Command, |lab, internet, number| {
            lab.host(if number == 1 { "a" } else { "b" })?.on(internet, &format!("203.0.113.2{number}"))
        })?;
        pair.pair()?;
        let c = Node::new(pair.lab.host("c")?.on(&pair.internet, "203.0.113.23")?, Show::Command);
        let invitation = pair.a.invite()?;
        c.join(&invitation.code)?;
        invitation.joined()?;
        pair.up()?;
        c.peerup(["up", "--userspace"])?;
        pair.wait_for_class("direct", SOON)?;
        c.wait_for_class("a", "direct", SOON)?;
        pair.b.peerup(["service", "add", "sink", PORT])?;
        let mut running = Vec::new();
        for host in [pair.a.host(), pair.b.host(), c.host()] {
            running.push(listening(host)?);
        }
        running.push(serving(&pair.a, ["proxy", "b", "sink", LOCAL], LOCAL)?);
        for node in [&pair.a, &c] {
            running.push(serving(node, ["socks", SOCKS], SOCKS)?);
        }
        Ok(Self { pair, c, _running: running })
    }

    fn a(&self) -> &Host {
        self.pair.a.host()
    }
}

fn listening(host: &Host) -> Result<Process> {
    let sink = host.cmd(&tool()?.display().to_string()).args(["sink", PORT]).show(Show::Nothing).spawn()?;
    sink.wait_for_line("listening", SOON)?;
    Ok(sink)
}

/// A command that listens until it is ended, and says where.
fn serving<const N: usize>(node: &Node, words: [&str; N], says: &str) -> Result<Process> {
    let mut command = node.cmd(words)?.spawn()?;
    command.close_stdin();
    command.wait_for_line(says, SOON)?;
    Ok(command)
}

/// Mbit/s that arrive at the sink of `to`.
fn flood(from: &Host, to: &str, proxy: Option<&str>) -> Result<f64> {
    flood_port(from, to, PORT, proxy)
}

fn flood_port(from: &Host, to: &str, port: &str, proxy: Option<&str>) -> Result<f64> {
    let proxy = proxy.map(|port| format!("127.0.0.1:{port}"));
    let words = ["flood".to_owned(), format!("{to}:{port}"), SECONDS.to_string()];
    measured(from.cmd(&tool()?.display().to_string()).args(words.into_iter().chain(proxy)))
}

fn exec(place: &Place) -> Result<f64> {
    let (tool, target, seconds) =
        (tool()?.display().to_string(), format!("{INVITER}:{PORT}"), SECONDS.to_string());
    measured(place.c.cmd(["exec", "--", &tool, "flood", &target, &seconds])?)
}

fn measured(flood: peerup_lab::Cmd) -> Result<f64> {
    let output = flood.show(Show::Nothing).deadline(Duration::from_secs(u64::from(SECONDS) + 30)).run()?;
    output.stdout.trim().parse().with_context(|| output.to_string())
}
