//! Services through `peerup proxy`: real servers and clients, across NATs, over the relay and direct.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use peerup_lab::peerup::{Node, Pair};
use peerup_lab::{Host, Process, Show};
use serde_json::Value;

use crate::limits::DIRECT;

const SOON: Duration = Duration::from_secs(15);

/// A web server on the host's loopback, for a directory of its own.
fn web(host: &Host, port: u16) -> Process {
    let dir = host.dir().join("www");
    host.ask(&format!("mkdir -p {}", dir.display())).unwrap();
    let (port, dir) = (port.to_string(), dir.display().to_string());
    let server = host.cmd("python3").show(Show::Nothing).args([
        "-u",
        "-m",
        "http.server",
        &port,
        "--bind",
        "127.0.0.1",
        "--directory",
        &dir,
    ]);
    let server = server.spawn().unwrap();
    server.wait_for_line("Serving", SOON).unwrap();
    server
}

/// `peerup proxy`, and the address it listens on.
fn proxy(node: &Node, target: &str, service: &str) -> Result<(Process, String)> {
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
