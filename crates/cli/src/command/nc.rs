//! `peerup nc`: standard input and output as a connection to a peer, for `ssh -o ProxyCommand`.

use std::{io, net::Shutdown, os::unix::net::UnixStream, thread};

use clap::Args;
use peerup_control::api::OpenRequest;

use super::{Context, block_on};
use crate::failure::{Exit, Failure};

#[derive(Debug, Args)]
pub struct Nc {
    /// Name, overlay address or peer ID
    pub peer: String,

    /// TCP port there
    pub port: u16,
}

pub fn run(context: &Context, args: &Nc) -> Result<Exit, Failure> {
    let request = OpenRequest::Connect { target: args.peer.clone(), port: args.port };
    let socket = block_on(async {
        let (socket, _) = context.place.daemon().await?.open(&request).await?;
        socket.into_std().map_err(broken)
    })?;
    socket.set_nonblocking(false).map_err(broken)?;
    join(&socket).map(|()| Exit::Ok)
}

/// Each direction ends by itself: the end of standard input is the end of what is sent, not of the connection.
fn join(socket: &UnixStream) -> Result<(), Failure> {
    let mut sending = socket.try_clone().map_err(broken)?;
    let sender = thread::Builder::new()
        .spawn(move || {
            let sent = io::copy(&mut io::stdin().lock(), &mut sending);
            let _ = sending.shutdown(Shutdown::Write);
            sent
        })
        .map_err(broken)?;
    let mut receiving = socket;
    io::copy(&mut receiving, &mut io::stdout().lock()).map_err(|error| match error.kind() {
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

fn broken(error: io::Error) -> Failure {
    Failure::of(&error).while_doing("the connection broke")
}
