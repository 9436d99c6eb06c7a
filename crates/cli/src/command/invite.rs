//! `peerup invite`: shows a code, waits for the other machine, and says how it ended.

use peerup_control::api::{InviteEvent, InviteRequest, Timestamp};
use tokio::sync::mpsc;

use super::{
    Context, block_on,
    init::parse_name,
    local::{Purpose, with_runtime},
};
use crate::{
    args::Invite,
    failure::{Exit, Failure},
    progress::Spinner,
    render::{qr, units},
    terminal::{Colour, Terminal},
};

pub const EXPOSURE: &str = "The other machine will reach every port that is open on this one; \
    a host firewall rule on the overlay interface limits it.";

/// A code that is good for days is a key under the doormat.
const MAX_TTL_S: u64 = 24 * 3600;

pub fn run(context: &Context, args: Invite) -> Result<Exit, Failure> {
    let ttl_s = args.ttl.as_secs();
    if !(1..=MAX_TTL_S).contains(&ttl_s) {
        return Err(Failure::usage("--ttl takes 1s to 24h"));
    }
    let name = args.name.as_deref().map(parse_name).transpose()?.map(|name| name.to_string());
    let node = context.place.load_node()?;
    let terminal = if args.non_interactive { context.terminal.result_only() } else { context.terminal };
    block_on(with_runtime(&node, Purpose::Pair, async |runtime| {
        let events = runtime.invite(InviteRequest { name, ttl_s }).await?;
        follow(&terminal, events, !args.non_interactive).await
    }))
}

async fn follow(
    terminal: &Terminal,
    mut events: mpsc::Receiver<InviteEvent>,
    interactive: bool,
) -> Result<Exit, Failure> {
    let mut waiting = false;
    loop {
        let spinner = waiting.then(|| Spinner::start(terminal, "waiting for the other machine"));
        let event = tokio::select! {
            event = events.recv() => event,
            // Dropping the receiver withdraws the invite.
            _ = tokio::signal::ctrl_c() => return Err(Failure::new("cancelled; the code is void")),
        };
        // What is said next is said in its place.
        drop(spinner);
        match event {
            Some(InviteEvent::Code { code, expires_at }) => {
                show_code(terminal, &code, expires_at, interactive)?;
                waiting = interactive;
            }
            Some(InviteEvent::Attempt { reason, left }) => {
                terminal.note(format_args!("a failed attempt: {reason} ({left} left)"))?;
            }
            Some(InviteEvent::Warning { text, hint }) => {
                terminal.warn(format_args!("warning: {text}"))?;
                hint.map_or(Ok(()), |hint| terminal.warn(format_args!("hint: {hint}")))?;
            }
            Some(InviteEvent::Joined { peer_id, name, address }) => {
                let at = address.map(|address| format!(" at {address}")).unwrap_or_default();
                terminal.note(terminal.paint(Colour::Green, format_args!("{name} has joined{at}")))?;
                terminal.note(format_args!("Peer ID:  {peer_id}"))?;
                return Ok(Exit::Ok);
            }
            Some(InviteEvent::Expired) => {
                return Err(Failure::new("nobody joined in time; the code is void").exit(Exit::Timeout));
            }
            Some(InviteEvent::Burned) => {
                return Err(Failure::new("too many failed attempts; the code is void")
                    .exit(Exit::NotAuthorised)
                    .hint(
                        "somebody may be guessing, or the code was mistyped: `peerup invite` makes a new one",
                    ));
            }
            Some(InviteEvent::Failed(error)) => return Err(error.into()),
            None => return Err(Failure::new("the invite ended without a result")),
        }
    }
}

fn show_code(terminal: &Terminal, code: &str, expires: Timestamp, interactive: bool) -> Result<(), Failure> {
    if !interactive {
        terminal.line(code)?;
        return terminal.note(EXPOSURE);
    }
    let left = expires.unix().saturating_sub(peerup_clock::unix());
    terminal.line("On the other machine, run:\n")?;
    terminal.line(terminal.paint(Colour::Bold, format_args!("  peerup join {code}\n")))?;
    if let Some(picture) = qr(code) {
        terminal.note(picture)?;
    }
    terminal.note(terminal.paint(Colour::Yellow, EXPOSURE))?;
    terminal.note(format_args!(
        "Waiting for one machine, {} at most; Ctrl-C voids the code.",
        units::duration(left)
    ))
}
