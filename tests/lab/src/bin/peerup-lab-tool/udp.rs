//! A UDP socket that tells what NATs do to it.
//!
//! It says hello to every destination ten times, answers each hello with the sender's address as seen here,
//! and prints all it gets: `hello from ADDRESS`, `seen as ADDRESS by ADDRESS`.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use peerup_lab::{clock, say};

const HELLO: &str = "hello";
const SEEN: &str = "seen as ";
const INTERVAL: Duration = Duration::from_millis(200);
const HELLOS: u32 = 10;

pub fn run(words: &[String]) -> Result<()> {
    let (port, destinations) = words.split_first().context("a port")?;
    let socket = UdpSocket::bind(("0.0.0.0", port.parse()?))?;
    let destinations =
        destinations.iter().map(|word| word.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;
    say("ready");
    let sender = socket.try_clone()?;
    std::thread::spawn(move || say_hello(&sender, &destinations));
    listen(&socket)
}

fn say_hello(socket: &UdpSocket, destinations: &[SocketAddr]) {
    for _ in 0..HELLOS {
        for destination in destinations {
            let _ = socket.send_to(HELLO.as_bytes(), destination);
        }
        clock::pause(INTERVAL);
    }
}

fn listen(socket: &UdpSocket) -> Result<()> {
    let mut buffer = [0; 1500];
    loop {
        // A refusal (ICMP) of an earlier hello shows up here; the next datagram may be fine.
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        let text = String::from_utf8_lossy(&buffer[..len]);
        if text == HELLO {
            say(&format!("{HELLO} from {from}"));
            let _ = socket.send_to(format!("{SEEN}{from}").as_bytes(), from);
        } else {
            say(&format!("{text} by {from}"));
        }
    }
}
