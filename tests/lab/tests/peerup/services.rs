//! Services through `peerup proxy`: real servers and clients, across NATs, over the relay and direct.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use peerup_lab::peerup::{JOINER, Node, Pair};
use peerup_lab::tools::nginx;
use peerup_lab::tools::ping::pings;
use peerup_lab::tools::ssh::Sshd;
use peerup_lab::{Cmd, Host, Process, Show, Signal};
use serde_json::Value;

use crate::limits::{DIRECT, REMOVED_PEER_CLOSES};
use crate::rootless::{DIGEST, bulk, bulk_file, listening};

const SOON: Duration = Duration::from_secs(15);

/// A web server on the host's loopback, for a directory of its own.
pub fn web(host: &Host, port: u16) -> Process {
    let listen = format!("127.0.0.1:{port}");
    nginx::serve(host, |program| host.cmd(program), &host.dir().join("www"), &listen).unwrap()
}

/// `peerup proxy`, and the address it listens on.
pub fn proxy(node: &Node, target: &str, service: &str) -> Result<(Process, String)> {
    let mut process = node.cmd(["proxy", target, service, "0", "--json"])?.spawn()?;
    process.close_stdin();
    let line = process.wait_for_first_line(SOON).context("waiting for the proxy")?;
    let report: Value = serde_json::from_str(&line)?;
    let address = report["listen_address"].as_str().context("no listen_address")?.to_owned();
    ensure!(address.starts_with("127.0.0.1:"), "{address}");
    Ok((process, address))
}

#[test]
fn a_service_is_used_over_the_relay_and_then_over_the_direct_path() {
    let (pair, _) = Pair::running("proxy", crate::homes).unwrap();
    let (a, b) = (&pair.a, &pair.b);
    let _web = web(b.host(), 8000);
    b.host().ask(&format!("head -c 3000000 /dev/urandom > {}/www/file", b.host().dir().display())).unwrap();
    b.peerup(["service", "add", "web", "localhost:8000"]).unwrap();
    let (_proxy, address) = proxy(a, "b", "web").unwrap();
    fetch_and_compare(a, b, &address);
    pair.wait_for_class("direct", DIRECT).unwrap();
    fetch_and_compare(a, b, &address);
}

fn fetch_and_compare(a: &Node, b: &Node, address: &str) {
    let got = a.host().ask(&format!("curl -sf http://{address}/file | sha256sum")).unwrap();
    let sent = b.host().ask(&format!("sha256sum < {}/www/file", b.host().dir().display())).unwrap();
    assert_eq!(got, sent);
}

#[test]
fn ssh_and_netcat_work_through_a_proxy_and_a_transfer_outlives_a_better_path() {
    // A relay first: the direct path comes up while the transfer runs.
    let (pair, _) = Pair::running("proxy-upgrade", crate::homes).unwrap();
    let (a, b) = (&pair.a, &pair.b);
    let _web = web(b.host(), 8000);
    let file = b.host().dir().join("www/big");
    b.host().ask(&format!("head -c 100000000 /dev/urandom > {}", file.display())).unwrap();
    b.peerup(["service", "add", "web", "8000"]).unwrap();
    b.peerup(["service", "add", "ssh", "127.0.0.1:22"]).unwrap();
    b.peerup(["service", "add", "pipe", "127.0.0.1:7000"]).unwrap();
    let (_web_proxy, address) = proxy(a, "b", "web").unwrap();
    let slow = format!("curl -sf --limit-rate 15M http://{address}/big | sha256sum");
    let mut transfer = a.host().cmd("sh").args(["-c", &slow]).spawn().unwrap();
    let begun_on = a.class("b");
    pair.wait_for_class("direct", DIRECT).unwrap();
    println!("the transfer began on the path `{begun_on}`");
    let got = transfer.wait(Duration::from_secs(60)).unwrap();
    let sent = b.host().ask(&format!("sha256sum < {}", file.display())).unwrap();
    assert_eq!(got.stdout, sent, "{got}");

    let sshd = Sshd::start(b.host(), a.host()).unwrap();
    let (_ssh_proxy, address) = proxy(a, "10.64.0.2", "ssh").unwrap();
    let port = address.rsplit(':').next().unwrap();
    let target = format!("ssh://127.0.0.1:{port}");
    assert_eq!(sshd.ssh(&target, "echo through $((6*7))").run().unwrap().stdout.trim(), "through 42");

    // The client ends its direction first and still gets the answer.
    let answer = "exec nc -l -N 127.0.0.1 7000 < /dev/null | wc -c > /tmp/count; cat /tmp/count";
    let sink = b.host().cmd("sh").args(["-c", answer]).spawn().unwrap();
    let (_pipe_proxy, address) = proxy(a, "b", "pipe").unwrap();
    let port = address.rsplit(':').next().unwrap();
    let feed = format!("head -c 5000000 /dev/zero | nc -N 127.0.0.1 {port}");
    a.host().cmd("sh").args(["-c", &feed]).run().unwrap();
    sink.wait_for_line("5000000", SOON).unwrap();
}

#[test]
fn an_unprivileged_host_without_interface_offers_and_uses_services() {
    let pair = Pair::new("proxy-unprivileged", Show::Command, crate::homes).unwrap();
    pair.pair().unwrap();
    for node in [&pair.a, &pair.b] {
        let file = node.dir().join("config.yaml");
        let text = node.host().read(&file).unwrap();
        assert!(text.contains("\nvpn:\n  enabled: true\n"), "{text}");
        node.host()
            .write(&file, text.replacen("\nvpn:\n  enabled: true\n", "\nvpn:\n  enabled: false\n", 1))
            .unwrap();
    }
    let (a, b) = (Plain::new(&pair.a), Plain::new(&pair.b));
    let _web = web(pair.b.host(), 8000);
    pair.b.host().ask(&format!("echo hello > {}/www/file", pair.b.host().dir().display())).unwrap();
    b.peerup(["up"]).run().unwrap();
    b.peerup(["service", "add", "web", "8000"]).run().unwrap();

    // Without a daemon here: a host of the command's own.
    let mut alone = a.peerup(["proxy", "b", "web", "8080"]).spawn().unwrap();
    alone.close_stdin();
    alone.wait_for_line("a temporary host", SOON).unwrap();
    alone.wait_for_line("127.0.0.1:8080", Duration::from_secs(20)).unwrap();
    let fetched = pair.a.host().ask("curl -sf http://127.0.0.1:8080/file").unwrap();
    assert_eq!(fetched, "hello\n");
    alone.signal(Signal::SIGINT);
    let ended = alone.wait(SOON).unwrap();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stdout.contains("1 connection"), "{ended}");

    // With one, and after it was killed and has left its socket.
    a.peerup(["up"]).run().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", pair.a.daemon_pid().unwrap())).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
    a.peerup(["daemon", "connect", "--peer", "b", "--service", "web", "--listen", "8081"]).run().unwrap();
    assert_eq!(pair.a.host().ask("curl -sf http://127.0.0.1:8081/file").unwrap(), "hello\n");
    pair.a.kill_daemon().unwrap();
    let mut alone = a.peerup(["proxy", "b", "web", "8080"]).spawn().unwrap();
    alone.close_stdin();
    alone.wait_for_line("127.0.0.1:8080", Duration::from_secs(20)).unwrap();
    assert_eq!(pair.a.host().ask("curl -sf http://127.0.0.1:8080/file").unwrap(), "hello\n");
}

/// A node whose files belong to uid 1000, and its command line as that user without any capability.
struct Plain<'n>(&'n Node);

impl<'n> Plain<'n> {
    fn new(node: &'n Node) -> Self {
        let home = node.host().dir().join("home").display().to_string();
        let dirs = node.host().dir().display().to_string();
        node.host().ask(&format!("chmod 755 {dirs}; chown -R 1000:1000 {home}")).unwrap();
        Self(node)
    }

    fn peerup<const N: usize>(&self, words: [&str; N]) -> Cmd {
        let program = peerup_lab::peerup::binary().unwrap().display().to_string();
        let drop = [
            "--reuid",
            "1000",
            "--regid",
            "1000",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ];
        let cmd = self.0.host().cmd("setpriv").args(drop).arg(program).args(words);
        cmd.env("XDG_RUNTIME_DIR", "/tmp").deadline(Duration::from_secs(40))
    }
}

#[test]
fn much_arrives_whole_through_a_proxy_and_a_socks_proxy() {
    let pair = Pair::direct("proxy-bulk", crate::neighbours).unwrap();
    let (a, b) = (&pair.a, &pair.b);
    let _digest = listening(b.host().cmd("python3").args(["-u", "-c", DIGEST]));
    b.peerup(["service", "add", "digest", "9000"]).unwrap();
    let (_proxy, address) = proxy(a, "b", "digest").unwrap();
    let mut socks = a.cmd(["socks", "1080"]).unwrap().spawn().unwrap();
    socks.close_stdin();
    socks.wait_for_line("SOCKS5", SOON).unwrap();
    let sum = bulk_file(|script| a.host().ask(script));
    for way in [address.replace(':', " "), format!("-X 5 -x 127.0.0.1:1080 {JOINER} 9000")] {
        let send = format!("nc -N {way} < ~/bulk");
        let sent = a.host().cmd("sh").args(["-c", &send]).deadline(Duration::from_secs(60)).run().unwrap();
        assert_eq!(sent.stdout, sum, "{way}");
        println!("{} MB through {way}: {:.2} s", bulk() / 1_000_000, sent.took.as_secs_f64());
    }
}

#[test]
fn thousands_of_connections_one_after_another_and_at_once() {
    let pair = Pair::direct("proxy-many", crate::homes).unwrap();
    let (a, b) = (&pair.a, &pair.b);
    let full = std::env::var_os("PEERUP_LAB_FULL").is_some();
    let (at_once, in_turn) = if full { (2000, 10_000) } else { (400, 500) };
    let many = include_str!("many.py");
    b.host().write(&b.host().dir().join("many.py"), many).unwrap();
    a.host().write(&a.host().dir().join("many.py"), many).unwrap();
    let script = |host: &Host| host.dir().join("many.py").display().to_string();
    let echo = b.host().cmd("python3").args(["-u", &script(b.host()), "serve", "7000"]).spawn().unwrap();
    echo.wait_for_line("serving", SOON).unwrap();
    b.peerup(["service", "add", "echo", "7000"]).unwrap();
    let (_proxy, address) = proxy(a, "b", "echo").unwrap();
    let port = address.rsplit(':').next().unwrap();
    for (how, count) in [("at-once", at_once), ("in-turn", in_turn)] {
        let client = a.host().cmd("python3").args(["-u", &script(a.host()), how, port, &count.to_string()]);
        let done = client.deadline(Duration::from_secs(600)).run().unwrap();
        println!("{}", done.stdout.trim());
        assert!(done.stdout.contains(&format!("{count} answered")), "{done}");
    }
    let rows: Value = serde_json::from_str(&a.peerup(["status", "--json"]).unwrap().stdout).unwrap();
    let row = &rows["proxies"][0];
    assert_eq!(
        (row["accepted"].as_u64(), row["failed"].as_u64()),
        (Some(at_once + in_turn), Some(0)),
        "{row}"
    );
    assert_eq!(
        (row["tx_bytes"].clone(), row["sessions"].as_u64()),
        (row["rx_bytes"].clone(), Some(0)),
        "{row}"
    );
}

#[test]
fn a_client_that_stops_reading_costs_no_memory_and_stops_nobody_else() {
    let pair = Pair::direct("proxy-slow", crate::homes).unwrap();
    let (a, b) = (&pair.a, &pair.b);
    let flood = b.host().cmd("sh").args(["-c", "while true; do nc -l -N 127.0.0.1 7000 < /dev/zero; done"]);
    let _flood = flood.show(Show::Nothing).spawn().unwrap();
    b.peerup(["service", "add", "flood", "7000"]).unwrap();
    let port = "8080";
    a.peerup(["daemon", "connect", "--peer", "b", "--service", "flood", "--listen", port]).unwrap();
    let before = (a.rss_mib().unwrap(), b.rss_mib().unwrap());
    let stuck = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo connected; sleep 60");
    let stuck = a.host().cmd("bash").args(["-c", &stuck]).spawn().unwrap();
    stuck.wait_for_line("connected", SOON).unwrap();
    peerup_lab::clock::pause(Duration::from_secs(8));
    let after = (a.rss_mib().unwrap(), b.rss_mib().unwrap());
    println!("resident MiB with a client that does not read: {before:?}, then {after:?}");
    assert!(after.0 < before.0 + 48.0 && after.1 < before.1 + 48.0, "{before:?} {after:?}");
    pings(a.host(), JOINER, 20, Duration::from_millis(50)).unwrap().all_answered().unwrap();
}

#[test]
fn removing_a_key_ends_sessions_and_a_service_that_is_off_takes_no_more() {
    let pair = Pair::direct("proxy-removed", crate::homes).unwrap();
    let (a, b) = (&pair.a, &pair.b);
    let listen = "while true; do nc -l 127.0.0.1 7000; done";
    let _server = b.host().cmd("sh").args(["-c", listen]).show(Show::Nothing).spawn().unwrap();
    b.peerup(["service", "add", "chat", "7000"]).unwrap();
    let (_proxy, address) = proxy(a, "b", "chat").unwrap();
    let port = address.rsplit(':').next().unwrap();
    let client =
        format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo hello >&3; echo open; cat <&3; echo ended $?");
    let client = a.host().cmd("bash").args(["-c", &client]).spawn().unwrap();
    client.wait_for_line("open", SOON).unwrap();
    b.peerup(["service", "disable", "chat"]).unwrap();
    let refused = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3");
    let refused = a.host().cmd("bash").args(["-c", &refused]).try_run().unwrap();
    assert!(refused.stderr.contains("reset"), "{refused}");
    assert!(client.is_running(), "an open session ended: {}", client.output());
    b.peerup(["auth", "remove", &a.id().unwrap()]).unwrap();
    client.wait_for_line("ended 1", REMOVED_PEER_CLOSES * 2).unwrap();
}
