//! One TCP connection as full as it gets.
//!
//! `sink PORT` counts what each connection brings until its end and answers with the number. `flood ADDRESS SECONDS
//! [PROXY]` fills one, through a SOCKS5 proxy where one is named, and prints how many Mbit/s arrived: from the first
//! byte until the answer, so that what only filled buffers on the way does not count.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt::TcpCongestion};
use peerup_lab::{clock, say};

/// What a fast program reads and writes at once.
const BUFFER: usize = 256 << 10;

pub fn sink(words: &[String]) -> Result<()> {
    let port = words.first().context("a port")?.parse()?;
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
    say("listening");
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::spawn(move || count(stream));
    }
}

fn count(mut stream: TcpStream) -> Result<()> {
    let (mut buffer, mut total) = (vec![0; BUFFER], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            read => total += read as u64,
        }
    }
    Ok(stream.write_all(&total.to_be_bytes())?)
}

pub fn flood(words: &[String]) -> Result<()> {
    let [target, seconds, proxy @ ..] = words else { anyhow::bail!("an address and a number of seconds") };
    let (target, period) = (target.parse()?, Duration::from_secs(seconds.parse()?));
    let mut stream = match proxy.first() {
        Some(proxy) => through(proxy.parse()?, target)?,
        None => connect(target)?,
    };
    let buffer = vec![0; BUFFER];
    let began = clock::now();
    while began.elapsed() < period {
        stream.write_all(&buffer)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total).context("the sink's answer")?;
    let bits = u64::from_be_bytes(total) as f64 * 8.0;
    say(&format!("{:.0}", bits / began.elapsed().as_secs_f64() / 1e6));
    Ok(())
}

fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(target)?;
    // Whatever the machine's default is; a user may not choose where it is not the default.
    let _ = setsockopt(&stream, TcpCongestion, &"cubic".into());
    Ok(stream)
}

/// RFC 1928: no authentication, CONNECT to an IPv4 address.
fn through(proxy: SocketAddr, target: SocketAddr) -> Result<TcpStream> {
    let SocketAddr::V4(target) = target else { anyhow::bail!("an IPv4 address") };
    let mut stream = connect(proxy)?;
    stream.write_all(&[5, 1, 0])?;
    stream.read_exact(&mut [0; 2])?;
    let request = [&[5, 1, 0, 1][..], &target.ip().octets(), &target.port().to_be_bytes()].concat();
    stream.write_all(&request)?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply)?;
    ensure!(reply[1] == 0, "the proxy's reply is {}", reply[1]);
    Ok(stream)
}
