//! `peerup join`: pairs with the machine that made the code. A machine without a configuration gets one, with relay
//! and network from the code, exactly where `--config` says; it goes again when the join fails.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use peerup_config::template::NodeTemplate;
use peerup_control::api::{GroupReport, JoinReport, JoinRequest};
use peerup_trust::{code::Code, sas::Sas};
use peerup_types::{DnsLabel, PeerId};

use super::{
    Context, block_on,
    init::{create, default_name, parse_name},
    invite::EXPOSURE,
    local::{Purpose, with_runtime},
    relay_server::from_code,
};
use crate::{
    args::Join,
    failure::{Exit, Failure},
    place::{NodeFiles, directory, load_or_create_identity},
    progress::Spinner,
    render::name_of,
    terminal::{Colour, Terminal},
};

const RETRY: &str =
    "a code is good for one machine, some minutes and a few attempts; `peerup invite` there makes a new one";
const RETRY_GROUP: &str =
    "a code is good for one machine and some time; `peerup relay pair` on the relay makes new ones";

const EXPOSURE_TO_GROUP: &str = "The other machines of the group will reach every port that is open on this one; \
    a host firewall rule on the overlay interface limits it.";

const CODE_VARIABLE: &str = "PEERUP_INVITE_CODE";

pub fn run(context: &Context, args: Join) -> Result<Exit, Failure> {
    let terminal = if args.non_interactive { context.terminal.result_only() } else { context.terminal };
    let text = code_text(&terminal, &args)?;
    let code = decode(&text)?;
    let name = args.name.as_deref().map(parse_name).transpose()?;
    let file = context.place.node_file_or_new()?;
    let fresh = Fresh::before(context, &file);
    let request = JoinRequest { code: text, name: name.as_ref().map(ToString::to_string) };
    let report = join(context, &terminal, &file, &code, name, request).inspect_err(|_| fresh.undo())?;
    match &report.group {
        Some(group) => show_group(&terminal, &report, group, own_id(&context.place.read_node(file)?)?)?,
        None => show(&terminal, &report)?,
    }
    Ok(Exit::Ok)
}

fn join(
    context: &Context,
    terminal: &Terminal,
    file: &Path,
    code: &Code,
    name: Option<DnsLabel>,
    request: JoinRequest,
) -> Result<JoinReport, Failure> {
    if !file.exists() {
        create_node(terminal, file, code, name)?;
    }
    let node = context.place.read_node(file.to_owned())?;
    check_network(&node, code)?;
    terminal.note(terminal.paint(
        Colour::Yellow,
        match code {
            Code::Invite(_) => EXPOSURE,
            Code::Pairing(_) => EXPOSURE_TO_GROUP,
        },
    ))?;
    block_on(with_runtime(&node, Purpose::Pair, async |runtime| {
        let _spinner = Spinner::start(terminal, "pairing");
        Ok(runtime.join(request).await?)
    }))
    .map_err(|failure| {
        failure.default_hint(match code {
            Code::Invite(_) => RETRY,
            Code::Pairing(_) => RETRY_GROUP,
        })
    })
}

/// What a first join makes, and a failed one takes back.
#[derive(Default)]
struct Fresh {
    files: Vec<PathBuf>,
    /// The innermost first.
    dirs: Vec<PathBuf>,
}

impl Fresh {
    /// Of a node that exists nothing is taken back, and of one that does not nothing that was there before.
    fn before(context: &Context, file: &Path) -> Self {
        if file.exists() {
            return Self::default();
        }
        let dir = directory(file);
        let state = context.place.state(file);
        let beside = ["identity.key", "authorized_keys"].map(|name| dir.join(name));
        let files = [file.to_owned(), state.lock, state.peers, state.groups, state.listen_port]
            .into_iter()
            .chain(beside);
        let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
        Self {
            files: files.filter(|file| !file.exists()).collect(),
            dirs: dir.ancestors().take_while(missing).map(Path::to_owned).collect(),
        }
    }

    /// What cannot be removed is in nobody's way: the next join uses it.
    fn undo(&self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        for dir in &self.dirs {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Arguments, else the variable, else a question or one line of standard input.
fn code_text(terminal: &Terminal, args: &Join) -> Result<String, Failure> {
    if !args.code.is_empty() {
        return Ok(args.code.concat());
    }
    if let Some(code) = env::var(CODE_VARIABLE).ok().filter(|code| !code.is_empty()) {
        return Ok(code);
    }
    let code = if args.non_interactive { terminal.read_line()? } else { terminal.ask("Code:")? };
    if code.is_empty() {
        return Err(
            Failure::usage("there is no code").hint("`peerup invite` on the other machine prints one")
        );
    }
    Ok(code)
}

fn decode(text: &str) -> Result<Code, Failure> {
    Code::decode(text).map_err(|error| {
        Failure::of(&error).exit(Exit::Usage).hint("copy the whole code; dashes and case do not matter")
    })
}

fn network(code: &Code) -> &Option<DnsLabel> {
    match code {
        Code::Invite(code) => &code.network,
        Code::Pairing(code) => &code.network,
    }
}

fn create_node(terminal: &Terminal, file: &Path, code: &Code, name: Option<DnsLabel>) -> Result<(), Failure> {
    let template = NodeTemplate {
        name: name.or_else(default_name),
        relays: vec![from_code(code)],
        network: network(code).clone(),
        cidr: None,
    };
    create(file, &template)?;
    terminal.note(format_args!("created {}", file.display()))
}

/// Nodes of different networks never meet, so pairing across them would only look like success.
fn check_network(node: &NodeFiles, code: &Code) -> Result<(), Failure> {
    let (ours, theirs) = (&node.config.discovery.network, network(code));
    if ours == theirs {
        return Ok(());
    }
    let name = |network: &Option<DnsLabel>| {
        network.as_ref().map_or_else(|| "the global network".to_owned(), |label| format!("network `{label}`"))
    };
    Err(Failure::new(format!("the code is for {}, this node is in {}", name(theirs), name(ours)))
        .exit(Exit::Conflict)
        .hint(format!("change discovery.network in {}, or join with another --config", node.file.display())))
}

fn own_id(node: &NodeFiles) -> Result<PeerId, Failure> {
    Ok(load_or_create_identity(&node.config.identity.key_file)?.public().to_peer_id())
}

fn show_group(
    terminal: &Terminal,
    report: &JoinReport,
    group: &GroupReport,
    own: PeerId,
) -> Result<(), Failure> {
    let GroupReport { id, size, members } = group;
    terminal.note(terminal.paint(Colour::Green, format_args!("joined group {id}")))?;
    terminal.note(format_args!("Relay:         {}", report.inviter))?;
    if let Some(address) = report.address {
        terminal.note(format_args!("This machine:  {address}"))?;
    }
    let missing = usize::from(*size).saturating_sub(members.len() + 1);
    for member in members {
        let sas = Sas::of(&own, &member.peer_id);
        let pictures = sas.emoji().map(String::from).join(" ");
        let name = name_of(member.name.as_deref(), &member.peer_id);
        terminal.note(format_args!("{:<15}{}", format!("{name}:"), member.peer_id))?;
        terminal.note(format_args!("               {pictures}   {}", sas.numeric()))?;
    }
    match missing {
        0 => {}
        1 => terminal.note("one more machine can join; the relay introduces it")?,
        more => terminal.note(format_args!("{more} more machines can join; the relay introduces them"))?,
    }
    if !members.is_empty() {
        terminal.note("`peerup verify NAME` there shows the same pictures if the relay told the truth")?;
    }
    show_next(terminal, report)
}

fn show(terminal: &Terminal, report: &JoinReport) -> Result<(), Failure> {
    let name = name_of(report.inviter_name.as_deref(), &report.inviter);
    terminal.note(terminal.paint(Colour::Green, format_args!("paired with {name}")))?;
    terminal.note(format_args!("Peer ID:       {}", report.inviter))?;
    if let Some(address) = report.address {
        terminal.note(format_args!("This machine:  {address}"))?;
    }
    if let Some(address) = report.inviter_address {
        terminal.note(format_args!("{:<15}{address}", format!("{name}:")))?;
    }
    show_next(terminal, report)
}

fn show_next(terminal: &Terminal, report: &JoinReport) -> Result<(), Failure> {
    if !report.relay_authorised {
        terminal.note("The relay does not know this machine yet: run `peerup relay authorize` there with")?;
        terminal.note("the ID that `peerup whoami` prints.")?;
    }
    terminal.note("Next: peerup up (with sudo, or CAP_NET_ADMIN)")
}
