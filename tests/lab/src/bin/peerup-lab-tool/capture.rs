//! Every frame of one link, both directions, to standard output: a u32 length in network order, then the frame.

use std::io::Write;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket};

/// A super-packet of 64 KiB with its headers.
const FRAME_LIMIT: usize = 70_000;

pub fn run(words: &[String]) -> Result<()> {
    let [link] = words else { bail!("capture LINK") };
    let index = if_nametoindex(link.as_str()).with_context(|| format!("link {link}"))?;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    eprintln!("capturing {link}");
    let mut frame = vec![0; FRAME_LIMIT];
    let mut out = std::io::stdout().lock();
    loop {
        let (len, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame)?;
        if from.is_some_and(|from| from.ifindex() == index as usize) {
            out.write_all(&u32::try_from(len)?.to_be_bytes())?;
            out.write_all(&frame[..len])?;
            out.flush()?;
        }
    }
}
