//! The main job, shown: two machines behind NATs, paired with one code, `ssh 10.64.0.2`.
//!
//! Everything runs in one laboratory, which the kernel takes down with this process, Ctrl-C included.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use peerup_lab::peerup::{self, INVITER, JOINER, Node, Pair, natted};
use peerup_lab::tools::iperf::{self, Iperf};
use peerup_lab::tools::ping::{Pings, first_ping};
use peerup_lab::tools::ssh::Sshd;
use peerup_lab::{Cmd, NatKind, Output, Show, require_tun, say};

const SHOWN: Show = Show::CommandAndOutput;

/// What the summary tells.
struct Figures {
    first_reply: Duration,
    first_class: String,
    direct_after: Duration,
    pings: Pings,
    ssh: Output,
    iperf: String,
    path: String,
}

fn main() -> ExitCode {
    let Err(error) = demonstrate() else { return ExitCode::SUCCESS };
    eprintln!("peerup-demo: {error:#}");
    ExitCode::FAILURE
}

fn demonstrate() -> Result<()> {
    require_tun()?;
    peerup::binary()?;
    say(
        "\n  a (192.168.1.2) ── nat1 (203.0.113.11) ──┐\n                                            ├── relay (203.0.113.3)\n  \
         b (192.168.2.2) ── nat2 (203.0.113.12) ──┘\n",
    );
    let pair = Pair::new("demo", SHOWN, |lab, internet, number| {
        Ok(natted(lab, internet, number, NatKind::PortShifting)?.1)
    })?;
    chapter("pair the two machines with one code");
    pair.pair()?;
    chapter("bring both up");
    pair.up()?;
    let figures = show(&pair).with_context(|| pair.logs())?;
    chapter("take it down again");
    pair.a.down()?;
    pair.b.down()?;
    summary(&figures);
    Ok(())
}

fn show(pair: &Pair) -> Result<Figures> {
    let (a, b) = (pair.a.host(), pair.b.host());
    chapter("packets flow over the relay at once, while both sides punch through their NATs");
    let mut first = first_ping(a, JOINER, Duration::from_secs(15)).show(SHOWN).spawn()?;
    // The relayed phase may be over in half a second: look first, wait for the reply then.
    let first_class = first_path(&pair.a)?;
    statuses(pair)?;
    let first = first.wait(Duration::from_secs(20))?;
    ensure!(first.code == Some(0), "no reply from {JOINER}: {first}");
    let direct_after = pair.wait_for_class("direct", Duration::from_secs(30))?;

    chapter("the path is direct");
    shown(a.cmd("grep").args(["path changed", &pair.a.dir().join("peerup.log").display().to_string()]))?;
    statuses(pair)?;
    let pings = Pings::parse(&shown(a.cmd("ping").args(["-c", "10", "-i", "0.2", JOINER]))?, 10)?;

    chapter("ssh and iperf3 over the virtual addresses");
    let sshd = Sshd::start(b, a)?;
    let ssh = shown(sshd.ssh(JOINER, "echo \"this is $(hostname), you come from $SSH_CLIENT\""))?;
    ensure!(ssh.stdout.contains(INVITER), "ssh did not come through the overlay: {ssh}");
    let _server = Iperf::on(b).serve()?;
    let iperf = receiver_rate(&shown(iperf::tcp(a, JOINER, 3))?)?;
    let path = path_in_words(&pair.a)?;
    Ok(Figures { first_reply: first.took, first_class, direct_after, pings, ssh, iperf, path })
}

/// The class of the first path that carries packets.
fn first_path(node: &Node) -> Result<String> {
    let mut class = String::new();
    node.host().wait_until("a path to b", Duration::from_secs(15), || {
        class = node.class("b");
        !matches!(class.as_str(), "" | "connecting")
    })?;
    Ok(class)
}

fn statuses(pair: &Pair) -> Result<()> {
    for node in [&pair.a, &pair.b] {
        node.cmd(["status"])?.show(SHOWN).try_run()?;
    }
    Ok(())
}

fn path_in_words(node: &Node) -> Result<String> {
    let path = node.status()?.peer("b")?.path.context("the path is gone")?;
    Ok(format!("{}, {}, {} ({})", path.class, path.family, path.carrier, path.addr))
}

/// `[  5]   0.00-3.00   sec   210 MBytes   588 Mbits/sec                  receiver`
fn receiver_rate(output: &Output) -> Result<String> {
    let line = output.stdout.lines().find(|line| line.ends_with("receiver")).context("iperf3's summary")?;
    let words: Vec<_> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| word.ends_with("bits/sec")).context("iperf3's rate")?;
    Ok(format!("{} {}", words[unit - 1], words[unit]))
}

fn shown(cmd: Cmd) -> Result<Output> {
    cmd.show(SHOWN).run()
}

fn chapter(title: &str) {
    say(&format!("\n── {title}"));
}

fn summary(figures: &Figures) {
    let Figures { first_reply, first_class, direct_after, pings, ssh, iperf, path } = figures;
    say(&format!(
        "\n── summary
   first reply      {:>6.2} s after the second `up` (first path: {first_class})
   direct path      {:>6.2} s later
   ping             {:>6.2} ms on average, {} of {} lost
   ssh              {:>6.2} s for login, command and logout
   iperf3 TCP       {iperf}
   path at the end  {path}
   left behind      nothing: all of this lived in namespaces of this process",
        first_reply.as_secs_f64(),
        direct_after.as_secs_f64(),
        pings.avg_ms,
        pings.lost(),
        pings.sent,
        ssh.took.as_secs_f64(),
    ));
}
