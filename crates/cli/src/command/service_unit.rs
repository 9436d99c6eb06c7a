//! `peerup service-unit`: starting at boot, with everything taken away that a node or a relay does not need.

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use peerup_service::{Role, Systemd, SystemdError, Unit, owner_name};
use peerup_types::Protocol;
use serde_json::json;

use super::Context;
use crate::{
    failure::{Exit, Failure},
    place::directory,
};

/// Ports below need a capability (ip(7), ip_unprivileged_port_start).
const FIRST_FREE_PORT: u16 = 1024;

#[derive(Debug, Subcommand)]
pub enum ServiceUnit {
    /// Write the unit, and start it now and at every boot
    Install(Install),
    /// Stop the service and remove its unit; the configuration stays
    Uninstall(Which),
    /// Say whether the service is installed, starts at boot and runs
    Status {
        #[command(flatten)]
        which: Which,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct Which {
    /// The relay server, not the node
    #[arg(long)]
    relay: bool,
    /// Units below this directory instead of this machine's
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Debug, Args)]
pub struct Install {
    #[command(flatten)]
    which: Which,
    /// Run as this user [default: the owner of the configuration]
    #[arg(long)]
    user: Option<String>,
    /// The program to run [default: this one]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Print the unit and change nothing
    #[arg(long)]
    print: bool,
    /// Neither start it nor enable it
    #[arg(long)]
    no_start: bool,
}

pub fn run(context: &Context, command: ServiceUnit) -> Result<Exit, Failure> {
    match command {
        ServiceUnit::Install(args) => install(context, &args),
        ServiceUnit::Uninstall(which) => uninstall(context, &which),
        ServiceUnit::Status { which, json } => status(context, &which, json),
    }
}

fn install(context: &Context, args: &Install) -> Result<Exit, Failure> {
    let unit = unit(context, args)?;
    let text = unit.text().map_err(|error| Failure::usage(error.to_string()))?;
    if args.print {
        context.terminal.line(text.trim_end())?;
        return Ok(Exit::Ok);
    }
    let (systemd, name) = (Systemd::new(&args.which.root), unit.role.unit_name());
    let path = systemd.write(name, &text).map_err(failure)?;
    context.terminal.line(format_args!("written: {}", path.display()))?;
    if !systemd.is_running() {
        context.terminal.note("systemd does not run here: the unit waits for the next boot that has it")?;
        return Ok(Exit::Ok);
    }
    systemd.ctl(&["daemon-reload"]).map_err(failure)?;
    if args.no_start {
        context.terminal.note(format_args!("start it with: systemctl enable --now {name}"))?;
        return Ok(Exit::Ok);
    }
    systemd.ctl(&["enable", "--now", name]).map_err(failure)?;
    context
        .terminal
        .line(format_args!("running, now and after every boot; its log: journalctl -u {name}"))?;
    Ok(Exit::Ok)
}

fn unit(context: &Context, args: &Install) -> Result<Unit, Failure> {
    let (role, config) = match args.which.relay {
        true => {
            let relay = context.place.load_relay()?;
            let low_ports = relay.config.network.listen_addresses.iter().any(has_low_port);
            (Role::Relay { low_ports }, relay.file)
        }
        false => (Role::Node, context.place.load_node()?.file),
    };
    let config = std::path::absolute(&config).unwrap_or(config);
    let user = match &args.user {
        Some(user) => user.clone(),
        None => owner(directory(&config))?,
    };
    let binary = match &args.binary {
        Some(binary) => std::path::absolute(binary).unwrap_or_else(|_| binary.clone()),
        None => this_program()?,
    };
    Ok(Unit { role, user, binary, config })
}

fn has_low_port(address: &peerup_types::Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => (1..FIRST_FREE_PORT).contains(&port),
        _ => false,
    })
}

fn owner(dir: &Path) -> Result<String, Failure> {
    let name = owner_name(dir)
        .map_err(|error| Failure::of(&error).while_doing(format_args!("cannot look at {}", dir.display())))?;
    name.ok_or_else(|| {
        Failure::new(format!("the owner of {} has no name on this machine", dir.display()))
            .hint("name the user with --user")
    })
}

fn this_program() -> Result<PathBuf, Failure> {
    env::current_exe().map_err(|error| {
        Failure::of(&error).while_doing("cannot tell where this program lies").hint("name it with --binary")
    })
}

fn uninstall(context: &Context, which: &Which) -> Result<Exit, Failure> {
    let (systemd, name) = (Systemd::new(&which.root), name(which));
    let installed = systemd.unit_file(name).exists();
    if installed && systemd.is_running() {
        systemd.ctl(&["disable", "--now", name]).map_err(failure)?;
    }
    if !systemd.remove(name).map_err(failure)? {
        context.terminal.note(format_args!("{name} is not installed"))?;
        return Ok(Exit::Ok);
    }
    if systemd.is_running() {
        systemd.ctl(&["daemon-reload"]).map_err(failure)?;
    }
    context.terminal.line(format_args!("removed: {name}; configuration and keys stay"))?;
    Ok(Exit::Ok)
}

fn status(context: &Context, which: &Which, json: bool) -> Result<Exit, Failure> {
    let (systemd, name) = (Systemd::new(&which.root), name(which));
    let file = systemd.unit_file(name);
    let installed = file.exists();
    let active = systemd.property(name, "ActiveState").map_err(failure)?;
    let enabled = systemd.property(name, "UnitFileState").map_err(failure)?;
    if json {
        context.terminal.json(&json!({
            "unit": name,
            "file": installed.then(|| file.display().to_string()),
            "active": active == "active",
            "enabled": enabled == "enabled",
        }))?;
    } else if installed {
        let word = |state: &str| {
            if state.is_empty() { "unknown (systemd does not run here)" } else { state }.to_owned()
        };
        context.terminal.line(format_args!("{name}: {}", file.display()))?;
        context.terminal.line(format_args!("state:   {}", word(&active)))?;
        context.terminal.line(format_args!("at boot: {}", word(&enabled)))?;
    } else {
        context.terminal.line(format_args!("{name}: not installed"))?;
    }
    let degraded = systemd.is_running() && active != "active";
    Ok(if installed && !degraded { Exit::Ok } else { Exit::Degraded })
}

fn name(which: &Which) -> &'static str {
    match which.relay {
        true => Role::Relay { low_ports: false }.unit_name(),
        false => Role::Node.unit_name(),
    }
}

fn failure(error: SystemdError) -> Failure {
    let failure = Failure::of(&error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
