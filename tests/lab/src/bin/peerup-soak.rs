//! Half an hour of everyday life: traffic, path changes and questions to the API, and memory that has to stay flat.
//!
//! Traffic is TCP by iperf3 and pings both ways; the direct path is cut or restored every minute; every question to the API
//! has to be answered. `peerup-soak [MINUTES]` (30 unless said) prints a line a minute and fails when the resident memory of a
//! daemon or of the relay in the last third exceeds that of the second third by more than a tenth, when one panicked, or
//! when traffic stopped.
//! Timers are the real ones; it is not part of the tests for that reason.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the record of the run")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use peerup_lab::peerup::{INVITER, JOINER, Node, Pair, natted};
use peerup_lab::tools::iperf::Iperf;
use peerup_lab::tools::ping::first_reply;
use peerup_lab::{Cut, Nat, NatKind, Show, clock, panics, require_tun};

const MINUTES: u64 = 30;
/// One round: traffic and questions, then the direct path is cut or restored.
const ROUND: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);
/// Of one transfer by TCP.
const TRANSFER_S: u32 = 3;
/// How much the memory of the last third may exceed that of the second.
const GROWTH: f64 = 1.10;

fn main() -> ExitCode {
    let minutes = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(MINUTES);
    let Err(error) = soak(minutes) else { return ExitCode::SUCCESS };
    eprintln!("peerup-soak: {error:#}");
    ExitCode::FAILURE
}

fn soak(minutes: u64) -> Result<()> {
    require_tun()?;
    let mut nats = Vec::new();
    let pair = Pair::direct("soak", |lab, internet, number| {
        let (nat, host) = natted(lab, internet, number, NatKind::EndpointIndependent)?;
        nats.push(nat);
        Ok(host)
    })?;
    let servers = [&pair.a, &pair.b].map(|node| Iperf::on(node.host()));
    println!(
        "| minute | path | a MiB | b MiB | relay MiB | answers | MB by TCP |\n|---|---|---|---|---|---|---|"
    );
    let (mut memory, mut cut) = (Vec::new(), None);
    for minute in 1..=minutes {
        let Round { answers, megabytes } = round(&pair, &servers, clock::now())?;
        let used = [pair.a.rss_mib()?, pair.b.rss_mib()?, pair.relay.rss_mib()?];
        let [a, b, relay] = used;
        let path = pair.a.class("b");
        println!("| {minute} | {path} | {a:.1} | {b:.1} | {relay:.1} | {answers} | {megabytes:.0} |");
        memory.push(used);
        cut = turn(cut, &nats)?;
    }
    drop(cut);
    for node in [&pair.a, &pair.b] {
        ensure!(panics(&node.log()).is_empty(), "{} panicked", node.name());
    }
    ensure!(panics(&pair.relay.output()).is_empty(), "the relay panicked");
    flat(&memory)
}

/// What a minute carried.
struct Round {
    answers: u32,
    megabytes: f64,
}

/// A minute of transfers both ways and questions.
fn round(pair: &Pair, servers: &[Iperf; 2], began: Instant) -> Result<Round> {
    let mut round = Round { answers: 0, megabytes: 0.0 };
    let [of_a, of_b] = servers;
    while began.elapsed() < ROUND {
        // The path may have been cut a moment ago.
        first_reply(pair.a.host(), JOINER, PATIENCE)?;
        for (node, peer, server) in [(&pair.a, JOINER, of_b), (&pair.b, INVITER, of_a)] {
            burst(node, peer)?;
            let figures = server.tcp(node.host(), peer, TRANSFER_S)?;
            round.megabytes += figures.mbit * f64::from(TRANSFER_S) / 8.0;
            for words in
                [&["status", "--json"][..], &["peers", "--json"], &["paths", "--json"], &["why", peer]]
            {
                let output = node.cmd(words.iter().copied())?.show(Show::Nothing).try_run()?;
                ensure!(matches!(output.code, Some(0 | 3)), "{output}");
                round.answers += 1;
            }
        }
        clock::pause(Duration::from_millis(500));
    }
    ensure!(round.megabytes > 0.0, "TCP carries nothing");
    Ok(round)
}

fn burst(node: &Node, peer: &str) -> Result<()> {
    let words = ["-q", "-c", "300", "-i", "0.002", "-s", "1300", "-w", "20", peer];
    let output = node.host().cmd("ping").args(words).show(Show::Nothing).deadline(PATIENCE).try_run()?;
    ensure!(!output.stdout.contains(" 0 received"), "nothing comes back from {peer}: {output}");
    Ok(())
}

/// Cuts the direct path, or restores it.
fn turn(cut: Option<Cut>, nats: &[Nat]) -> Result<Option<Cut>> {
    match cut {
        Some(cut) => cut.restore().map(|()| None),
        None => nats[0].router().cut_from(nats[1].router()).map(Some),
    }
}

fn flat(memory: &[[f64; 3]]) -> Result<()> {
    let third = memory.len() / 3;
    ensure!(third > 0, "too short to tell");
    let mean =
        |part: &[[f64; 3]], node: usize| part.iter().map(|used| used[node]).sum::<f64>() / part.len() as f64;
    for (node, name) in ["a", "b", "relay"].into_iter().enumerate() {
        let (middle, last) = (mean(&memory[third..2 * third], node), mean(&memory[2 * third..], node));
        println!("{name}: {middle:.1} MiB in the second third, {last:.1} MiB in the last");
        ensure!(last <= middle * GROWTH, "{name} grows");
    }
    Ok(())
}
