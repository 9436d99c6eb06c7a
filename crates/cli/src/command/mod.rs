//! One file per command; this one sends each to its own.

mod auth;
mod bugreport;
mod config;
mod daemon;
mod doctor;
mod down;
mod events;
pub mod exec;
mod init;
mod invite;
mod ip;
mod join;
mod local;
mod man;
pub mod nc;
mod netcheck;
mod paths;
mod peers;
mod ping;
mod proxy;
mod relay;
mod relay_pair;
mod relay_server;
mod relay_setup;
mod resolve;
mod service;
pub mod service_unit;
pub mod socks;
mod ssh_config;
mod status;
mod traceroute;
mod up;
mod verify;
mod wait;
mod whoami;
mod whois;
mod why;

use std::future::Future;

use clap::CommandFactory;

pub use bugreport::Bugreport;
pub use doctor::Doctor;
pub use events::Events;
pub use ip::Ip;
pub use man::Man;
pub use verify::Verify;
pub use wait::Wait;
pub use whois::Whois;

use crate::{
    args::{Cli, Command, Json, Relay},
    failure::{Exit, Failure},
    place::Place,
    terminal::Terminal,
    version,
};

pub use netcheck::Netcheck;
pub use paths::Paths;
pub use why::Why;

/// What every command gets.
pub struct Context {
    pub terminal: Terminal,
    pub place: Place,
}

pub fn run(cli: Cli) -> Result<Exit, Failure> {
    let context = Context { terminal: Terminal::new(cli.quiet), place: Place::new(cli.config)? };
    match cli.command {
        Command::Init(args) => init::run(&context, args),
        Command::Up(args) => up::run(&context, &args),
        Command::Down(args) => down::run(&context, &args),
        Command::Daemon { command } => daemon::run(&context, command),
        Command::Status(args) => status::run(&context, &args),
        Command::Peers(args) => peers::run(&context, &args),
        Command::Ip(args) => ip::run(&context, &args),
        Command::Whois(args) => whois::run(&context, &args),
        Command::Paths(args) => paths::run(&context, &args),
        Command::Why(args) => why::run(&context, &args),
        Command::Ping(args) => ping::run(&context, &args),
        Command::Netcheck(args) => netcheck::run(&context, &args),
        Command::Wait(args) => wait::run(&context, &args),
        Command::Events(args) => events::run(&context, &args),
        Command::Doctor(args) => doctor::run(&context, &args),
        Command::Bugreport(args) => bugreport::run(&context, &args),
        Command::Traceroute(args) => traceroute::run(&context, &args),
        Command::Whoami(args) => whoami::run(&context, &args),
        Command::Auth(command) => auth::run(&context, command),
        Command::Verify(args) => verify::run(&context, &args),
        Command::Relay(command) => relay(&context, command),
        Command::Invite(args) => invite::run(&context, args),
        Command::Join(args) => join::run(&context, args),
        Command::Service(command) => service::run(&context, command),
        Command::ServiceUnit(command) => service_unit::run(&context, command),
        Command::Proxy(args) => proxy::run(&context, args),
        Command::Config(command) => config::run(&context, command),
        Command::Resolve(args) => resolve::run(&context, &args),
        Command::Nc(args) => nc::run(&context, &args),
        Command::Socks(args) => socks::run(&context, &args),
        Command::Exec(args) => exec::run(&context, &args),
        Command::SshConfig => ssh_config::run(&context),
        Command::Completions { shell } => completions(&context, shell),
        Command::Man(args) => man::run(&context, &args),
        Command::Version(args) => print_version(&context, "peerup", &args),
    }
}

fn relay(context: &Context, command: Relay) -> Result<Exit, Failure> {
    match command {
        Relay::Add { addresses, peer_id } => relay::add(context, &addresses, peer_id),
        Relay::List(args) => relay::list(context, &args),
        Relay::Remove { address, force } => relay::remove(context, &address, force),
        Relay::Setup { dir, non_interactive, fresh } => {
            relay_setup::run(context, dir.as_deref(), non_interactive, fresh)
        }
        Relay::Serve => relay_server::serve(context),
        Relay::Authorize { peer, comment } => relay_server::authorize(context, peer, &comment.join(" ")),
        Relay::Deauthorize { peer } => relay_server::deauthorize(context, peer),
        Relay::Pair(args) => relay_pair::run(context, &args),
        Relay::ListPeers(args) => relay_server::list_peers(context, &args),
        Relay::Info(args) => relay_server::info(context, &args),
        Relay::Version(args) => print_version(context, "peerup relay", &args),
        Relay::Config(command) => config::run_relay(context, command),
    }
}

fn completions(context: &Context, shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "peerup", &mut script);
    context.terminal.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Ok)
}

fn print_version(context: &Context, program: &str, args: &Json) -> Result<Exit, Failure> {
    if args.json {
        context.terminal.json(&serde_json::json!({
            "version": version::VERSION,
            "commit": version::COMMIT,
            "built": version::BUILD_DATE,
            "rustc": version::RUSTC,
            "target": version::TARGET,
        }))?;
    } else {
        context.terminal.line(format_args!("{program} {}", version::LONG))?;
    }
    Ok(Exit::Ok)
}

/// Runs a command that talks to the daemon, on this thread.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::of(&error).while_doing("cannot start the I/O runtime"))?.block_on(work)
}
