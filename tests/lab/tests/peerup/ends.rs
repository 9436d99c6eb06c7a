//! How connections end: what one side does to a TCP connection is what the other side sees, whatever lies between.

use std::time::Duration;

use peerup_lab::peerup::{INVITER, JOINER, Node, Pair};
use peerup_lab::{Cmd, Host, Process, Show};

use crate::rootless::Rootless;
use crate::services::proxy;

const SOON: Duration = Duration::from_secs(20);
const SCRIPT: &str = include_str!("ends.py");
const PORT: &str = "7100";
const NETCAT: &str = "7200";
const SOCKS: &str = "1080";

/// What the client is to do, what it sees, what the server sees. A reset is never shown as an end, and an end of one
/// direction leaves the other one standing.
const ENDS: [(&str, &str, &str); 4] = [
    ("server-resets", "half of it, reset after 0", "done"),
    ("client-resets", "done", "reset after 1000"),
    ("client-ends", "end after 3000000", "end after 3000000"),
    ("server-ends", "end after 3000000", "end after 3000000"),
];
/// The client has ended its direction, and then the server breaks off.
const LATE_RESET: [(&str, &str, &str); 1] = [("server-resets-after-the-end", "reset after 0", "end after 0")];

/// The server, by a command that runs Python.
fn serve(python: Cmd) -> Process {
    let server = python.args(["-u", "-c", SCRIPT, "serve", PORT]).show(Show::Nothing).spawn().unwrap();
    server.wait_for_line("listening", SOON).unwrap();
    server
}

/// Ends a connection in each way, and compares what both sides saw. `to` is the host, the port and where there is one
/// the SOCKS5 proxy's.
fn agree(way: &str, python: impl Fn() -> Cmd, to: &[&str], server: &Process, ends: &[(&str, &str, &str)]) {
    for (how, client_sees, server_sees) in ends {
        let how = format!("{how}/{way}");
        let client = python().args(["-c", SCRIPT, &how]).args(to.iter().copied()).deadline(SOON);
        let saw = client.show(Show::Nothing).run().unwrap();
        assert_eq!(saw.stdout.trim(), *client_sees, "{how}");
        server.wait_for_line(&format!("{how} {server_sees}"), SOON).unwrap();
    }
}

#[test]
fn a_proxy_and_an_interface_show_each_side_what_the_other_did() {
    let pair = Pair::direct("ends", crate::neighbours).unwrap();
    let (a, b) = (&pair.a, &pair.b);
    let python = || a.host().cmd("python3");
    let server = serve(b.host().cmd("python3"));
    b.peerup(["service", "add", "ends", PORT]).unwrap();
    let (_proxy, address) = proxy(a, "b", "ends").unwrap();
    let (_, port) = address.rsplit_once(':').unwrap();
    agree("proxy", python, &["127.0.0.1", port], &server, &ENDS);
    agree("interface", python, &[JOINER, PORT], &server, &[&ENDS[..], &LATE_RESET].concat());
    let _socks = socks(a);
    agree("socks", python, &["b", PORT, SOCKS], &server, &[&ENDS[..], &LATE_RESET].concat());
    b.peerup(["service", "add", "netcat", NETCAT]).unwrap();
    let (_netcat, address) = proxy(a, "b", "netcat").unwrap();
    netcat(a.host(), b.host(), &address.replace(':', " "));
    netcat(a.host(), b.host(), &format!("-X 5 -x 127.0.0.1:{SOCKS} {JOINER} {NETCAT}"));
}

#[test]
fn a_user_without_privileges_and_its_peers_show_each_other_what_they_did() {
    let pair = Rootless::running("ends-rootless");
    let (a, b) = (&pair.a, &pair.b);
    let all = [&ENDS[..], &LATE_RESET].concat();
    let of_user = serve(pair.user.cmd("python3"));
    agree("in", || b.host().cmd("python3"), &[INVITER, PORT], &of_user, &all);
    let of_b = serve(b.host().cmd("python3"));
    let _socks = socks(a);
    agree("socks", || pair.user.cmd("python3"), &["b", PORT, SOCKS], &of_b, &all);
    pair.user.open_tun().unwrap();
    let exec = || a.cmd(["exec", "--", "python3"]).unwrap();
    agree("exec", exec, &[JOINER, PORT], &of_b, &all);
    netcat(b.host(), a.host(), &format!("{INVITER} {NETCAT}"));
    netcat(a.host(), b.host(), &format!("-X 5 -x 127.0.0.1:{SOCKS} {JOINER} {NETCAT}"));
}

fn socks(node: &Node) -> Process {
    let mut socks = node.cmd(["socks", SOCKS]).unwrap().spawn().unwrap();
    socks.close_stdin();
    socks.wait_for_line("SOCKS5", SOON).unwrap();
    socks
}

/// `nc -N` on both sides: the server's ends its direction first, and still gets all that the client's sends after it.
/// (The other way round a listening nc ends by itself; stories with checksums have `nc -N` clients that end first.)
fn netcat(client: &Host, server: &Host, to: &str) {
    let serve = format!("head -c 2000000 /dev/zero | nc -l -N {NETCAT} | wc -c");
    let mut serving = server.cmd("sh").args(["-c", &serve]).show(Show::Nothing).spawn().unwrap();
    let listens = || server.ask(&format!("ss -Htln sport = {NETCAT}")).is_ok_and(|line| !line.is_empty());
    server.wait_until("nc listens", SOON, listens).unwrap();
    let ask = format!("(sleep 1; head -c 2000000 /dev/zero) | nc -N {to} | wc -c");
    assert_eq!(client.ask(&ask).unwrap().trim(), "2000000", "{to}");
    assert_eq!(serving.wait(SOON).unwrap().stdout.trim(), "2000000", "{to}");
}
