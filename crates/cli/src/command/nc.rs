//! `peerup nc`: standard input and output as a connection to a peer, for `ssh -o ProxyCommand`.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    thread,
};

use clap::Args;
use peerup_control::{Opened, api::OpenRequest};

use super::{Context, block_on};
use crate::failure::{Exit, Failure};

/// One super-packet.
const BUFFER: usize = 64 * 1024;

#[derive(Debug, Args)]
pub struct Nc {
    /// Name, overlay address or peer ID
    pub peer: String,

    /// TCP port there
    pub port: u16,
}

pub fn run(context: &Context, args: &Nc) -> Result<Exit, Failure> {
    let request = OpenRequest::Connect { target: args.peer.clone(), port: args.port };
    let (socket, early) = block_on(async {
        let Opened { socket, early, .. } = context.place.daemon().await?.open(&request).await?;
        Ok((socket.into_std().map_err(broken)?, early))
    })?;
    socket.set_nonblocking(false).map_err(broken)?;
    join(&socket, &early).map(|()| Exit::Ok)
}

/// Each direction ends by itself: the end of standard input is the end of what is sent, not of the connection.
fn join(socket: &UnixStream, early: &[u8]) -> Result<(), Failure> {
    let mut sending = socket.try_clone().map_err(broken)?;
    let sender = thread::Builder::new()
        .spawn(move || {
            let sent = own(io::stdin()).and_then(|mut input| copy(&mut input, &mut sending));
            let _ = sending.shutdown(Shutdown::Write);
            sent
        })
        .map_err(broken)?;
    let mut receiving = socket;
    let received = own(io::stdout()).and_then(|mut output| {
        output.write_all(early)?;
        copy(&mut receiving, &mut output)
    });
    received.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::output(error),
        _ => broken(error),
    })?;
    match sender.join() {
        Ok(Ok(_)) => Ok(()),
        // The peer has closed the connection while there was more to send.
        Ok(Err(error)) => Err(broken(error)),
        Err(_) => Err(Failure::new("reading standard input failed")),
    }
}

/// Not `io::copy`, which splices: a splice that waits for the socket keeps the pipe locked, and whoever reads the other
/// end of the pipe (ssh) waits with it.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => to.write_all(&buffer[..len])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The file behind a standard stream, without the buffer that holds lines back until they end.
fn own(stream: impl AsFd) -> io::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned()?))
}

fn broken(error: io::Error) -> Failure {
    Failure::of(&error).while_doing("the connection broke")
}
