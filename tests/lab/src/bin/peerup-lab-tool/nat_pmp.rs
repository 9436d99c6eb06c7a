//! `nat-pmp INSIDE OUTSIDE`: the port mapper of a home router (RFC 6886), at its inside address. What it grants it
//! forwards, by rules in the tables that the laboratory's NAT boxes have.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

const CHAIN: &str = "add chain ip nat prerouting { type nat hook prerouting priority dstnat; }
insert rule inet filter forward ct status dnat accept";

pub fn run(words: &[String]) -> Result<()> {
    let [inside, outside] = words else { bail!("nat-pmp INSIDE OUTSIDE") };
    let (inside, outside): (Ipv4Addr, Ipv4Addr) = (inside.parse()?, outside.parse()?);
    let socket = UdpSocket::bind((inside, 5351))?;
    nft(CHAIN)?;
    eprintln!("ready");
    let mut buffer = [0; 1100];
    loop {
        let (len, from) = socket.recv_from(&mut buffer)?;
        if let Some(answer) = answer(&buffer[..len], from, outside)? {
            socket.send_to(&answer, from)?;
        }
    }
}

fn answer(request: &[u8], from: SocketAddr, outside: Ipv4Addr) -> Result<Option<Vec<u8>>> {
    let epoch = [0, 0, 1, 0];
    let IpAddr::V4(client) = from.ip() else { return Ok(None) };
    match request {
        [0, 0] => Ok(Some([&[0, 128, 0, 0][..], &epoch, &outside.octets()].concat())),
        [0, op @ (1 | 2), _, _, i1, i2, e1, e2, lifetime @ ..] if lifetime.len() == 4 => {
            let (port, wanted) = (u16::from_be_bytes([*i1, *i2]), u16::from_be_bytes([*e1, *e2]));
            let granted = if lifetime == [0; 4] { 0 } else { wanted };
            if granted > 0 {
                forward(if *op == 1 { "udp" } else { "tcp" }, granted, client, port)?;
            } else {
                nft("flush chain ip nat prerouting")?;
            }
            eprintln!("granted {granted} for {client}:{port}");
            let ports = [*i1, *i2, granted.to_be_bytes()[0], granted.to_be_bytes()[1]];
            Ok(Some([&[0, 128 | op, 0, 0][..], &epoch, &ports, lifetime].concat()))
        }
        // Another version: PCP is told that NAT-PMP is spoken here.
        [version, ..] if *version != 0 => Ok(Some([&[0, 128, 0, 1][..], &epoch].concat())),
        _ => Ok(None),
    }
}

fn forward(transport: &str, outside_port: u16, client: Ipv4Addr, port: u16) -> Result<()> {
    nft(&format!(
        "add rule ip nat prerouting iifname @wan {transport} dport {outside_port} dnat to {client}:{port}"
    ))
}

fn nft(commands: &str) -> Result<()> {
    let mut nft =
        Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("starting nft")?;
    nft.stdin.take().context("nft has no input")?.write_all(commands.as_bytes())?;
    ensure!(nft.wait()?.success(), "nft refused {commands}");
    Ok(())
}
