//! `stun PORT`: a STUN server that answers Binding requests with XOR-MAPPED-ADDRESS (RFC 8489) and knows no more.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Result, bail};

pub fn run(words: &[String]) -> Result<()> {
    let [port] = words else { bail!("stun PORT") };
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port.parse()?))?;
    eprintln!("ready");
    let mut buffer = [0; 576];
    loop {
        let (len, from) = socket.recv_from(&mut buffer)?;
        let SocketAddr::V4(from) = from else { continue };
        if len < 20 || buffer[..2] != [0, 1] {
            continue;
        }
        let mut answer = vec![1, 1, 0, 12];
        answer.extend(&buffer[4..20]);
        answer.extend([0, 0x20, 0, 8, 0, 1]);
        answer.extend((from.port() ^ 0x2112).to_be_bytes());
        answer.extend((from.ip().to_bits() ^ 0x2112_a442).to_be_bytes());
        socket.send_to(&answer, from)?;
    }
}
