//! Starting: files, interface, privileges, threads, socket, in the order in which each can still fail cleanly.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use peerup_config::{StatePaths, commit::State};
use peerup_control::{BindOptions, Runtime, Server, SocketGroup};
use peerup_membership::Membership;
use peerup_node::{Node, NodeConfig};
use peerup_service::{
    InvokingUser, Keep, Target, UserGroup, drop_privileges,
    files::{ConfigStore, FileLock, create_private_dir},
    raise_descriptor_limit,
};
use peerup_swarm::{InboundStream, PeerSwarm, Profile, SwarmConfig};
use peerup_types::Keypair;
use peerup_wire::protocol;
use rand::RngExt;
use tokio::{
    runtime::{self, Handle},
    sync::mpsc,
};

use crate::{
    api::{NodeHandle, REQUESTS},
    controller::{Controller, End, Mode, Parts, interface_settings, relay_limits},
    data::{Command, Prepared},
    device::AnyDevice,
    effect,
    error::{DaemonError, describe},
    files::{Files, members},
    interface::{Interface, is_userspace},
    observe::Observer,
    services, view,
    watchdog::{self, Watched},
};

#[derive(Debug, Clone)]
pub struct Options {
    pub config_file: PathBuf,
    /// `peerup up` started this process, so `peerup down` ends it.
    pub started_by_up: bool,
    /// Do without a network device, whatever `vpn.mode` says.
    pub userspace: bool,
    pub version: &'static str,
}

/// What is true once the node is ready.
#[derive(Debug, Clone)]
pub struct ReadyReport {
    /// `None` when `vpn.enabled` is off.
    pub interface: Option<String>,
    pub addresses: Vec<IpAddr>,
    pub name: Option<String>,
    pub peers: Vec<String>,
}

/// Runs a member of the network until it is told to stop. `ready` is called once, with what went wrong or when the
/// interface is up and the control socket answers.
pub fn run(
    options: Options,
    ready: impl FnOnce(Result<ReadyReport, &DaemonError>),
) -> Result<(), DaemonError> {
    let mut ready = Some(ready);
    let on_ready = |report| {
        if let Some(ready) = ready.take() {
            ready(Ok(report));
        }
    };
    match serve(&options, on_ready) {
        Err(error) => {
            if let Some(ready) = ready {
                ready(Err(&error));
            }
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// Starts, and starts again when the configuration asks for it, under one lock.
fn serve(options: &Options, mut ready: impl FnMut(ReadyReport)) -> Result<(), DaemonError> {
    let user = InvokingUser::current()?;
    let file = std::path::absolute(&options.config_file).unwrap_or_else(|_| options.config_file.clone());
    let _lock = FileLock::acquire(&StatePaths::beside(&file, Some(user.runtime_dir())).lock)?;
    loop {
        let (running, report) = start_settled(options, &ConfigStore::beside(&file))?;
        ready(report);
        match running.run()? {
            End::Stopped => return Ok(()),
            End::Again => {}
        }
    }
}

/// Starts with the configuration that is due. One on probation that does not even start is taken back.
fn start_settled(options: &Options, store: &ConfigStore) -> Result<(Running, ReadyReport), DaemonError> {
    let state = store.settle(peerup_clock::since_epoch())?;
    if state == State::Expired {
        tracing::warn!("the configuration was not confirmed in time: the former one is back");
    }
    match start(options) {
        Err(error) if matches!(state, State::Pending { .. }) => {
            tracing::error!(error = %describe(&error), "the unconfirmed configuration does not start: taking it back");
            store.expire()?;
            start(options)
        }
        outcome => outcome,
    }
}

/// A host without interface and control socket, for pairing while no daemon runs. It ends with the last clone of
/// the returned runtime. It needs no privilege; its caller gives them up, for the process they belong to.
pub async fn temporary(options: Options) -> Result<Arc<dyn Runtime>, DaemonError> {
    begin_temporary(options, Mode::Pairing).await
}

/// As [`temporary`], a member of the network that reaches its peers and offers them nothing.
pub async fn visitor(options: Options) -> Result<Arc<dyn Runtime>, DaemonError> {
    begin_temporary(options, Mode::Visitor).await
}

async fn begin_temporary(options: Options, mode: Mode) -> Result<Arc<dyn Runtime>, DaemonError> {
    let user = InvokingUser::current()?;
    let files = Files::load(&options.config_file, Some(user.runtime_dir()))?;
    let lock = FileLock::acquire(&files.state.lock)?;
    // What was not confirmed in time does not pair either.
    let files = match ConfigStore::beside(&files.config_file).settle(peerup_clock::since_epoch())? {
        State::Expired => Files::load(&options.config_file, Some(user.runtime_dir()))?,
        State::Settled | State::Pending { .. } => files,
    };
    allow_many_sessions();
    let (sender, requests) = mpsc::channel(REQUESTS);
    let (started, outcome) = tokio::sync::oneshot::channel();
    // The loop owns things that may not move between threads while they run, so it gets a thread of its own.
    std::thread::Builder::new()
        .name("peerup-host".into())
        .spawn(move || {
            let _lock = lock;
            let begun = begin_host(files, mode, options.version, requests);
            match begun {
                Ok((runtime, controller)) => {
                    let _ = started.send(Ok(controller.data.io().clone()));
                    if let Err(error) = runtime.block_on(controller.run()) {
                        tracing::error!(error = %crate::error::describe(&error), "the temporary host stopped");
                    }
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })
        .map_err(DaemonError::Runtime)?;
    match outcome.await {
        Ok(Ok(io)) => Ok(Arc::new(NodeHandle::new(sender, io))),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            Err(DaemonError::Runtime(std::io::Error::other("the thread of the temporary host ended early")))
        }
    }
}

fn begin_host(
    files: Files,
    mode: Mode,
    version: &'static str,
    requests: mpsc::Receiver<crate::api::Request>,
) -> Result<(runtime::Runtime, Controller), DaemonError> {
    let control = control_runtime()?;
    let _control = control.enter();
    let data = Prepared::<AnyDevice>::new()?.start()?;
    let keypair = files.identity()?;
    let node = node(&files, &keypair)?;
    let swarm = swarm(&files, &keypair, version, &node, mode, None, data.io().clone())?;
    let keys = files.keys()?;
    let parts =
        Parts { mode, version, files, keys, node, swarm, data, interface: None, userspace: true, requests };
    let mut controller = Controller::new(parts)?;
    control.block_on(controller.prepare());
    drop(_control);
    Ok((control, controller))
}

struct Running {
    control: runtime::Runtime,
    controller: Controller,
    server: Server,
    handle: NodeHandle,
}

impl Running {
    fn run(self) -> Result<End, DaemonError> {
        let Self { control, controller, server, handle } = self;
        control.block_on(async move {
            let watched = Watched {
                socket: controller.files.state.socket.clone(),
                handle: handle.clone(),
                data: controller.data.io().clone(),
            };
            let watchdog = watchdog::start(watched);
            if let Some(listen) = controller.files.config.socks.listen {
                let outside = controller.files.config.socks.allow_outside;
                tokio::spawn(crate::front::serve_configured(handle.clone(), listen, outside));
            }
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let served = tokio::spawn(server.serve(Arc::new(handle), async {
                let _ = stopped.await;
            }));
            let outcome = controller.run().await;
            if let Some(watchdog) = watchdog {
                watchdog.abort();
            }
            drop(stop);
            if let Ok(Err(error)) = served.await {
                tracing::error!(%error, "the control socket failed");
            }
            outcome
        })
    }
}

fn start(options: &Options) -> Result<(Running, ReadyReport), DaemonError> {
    let user = InvokingUser::current()?;
    let files = Files::load(&options.config_file, Some(user.runtime_dir()))?;
    effect::report(&files.config);
    allow_many_sessions();
    // Keys that were not confirmed in time do not count.
    ConfigStore::beside(&files.config.security.authorized_keys_file).settle(peerup_clock::since_epoch())?;
    let keypair = files.identity()?;
    let keys = files.keys()?;
    let mut node = node(&files, &keypair)?;
    own_address(&files, &keys, &mut node)?;

    let control = control_runtime()?;
    let prepared = Prepared::<AnyDevice>::new()?;
    // The device and the host's configuration need privileges, and privileges are dropped for one thread only: so
    // both happen before there is a second thread.
    let userspace = is_userspace(options.userspace, files.config.vpn.mode);
    let up = match files.config.vpn.enabled {
        true => Some(control.block_on(interface_up(&files, &node, userspace, prepared.io()))?),
        false => None,
    };
    let keep = if up.is_some() && !userspace { Keep::NetAdmin } else { Keep::Nothing };
    let group = shared_with(&files)?;
    drop_privileges(Target::owner_of(&files.state.dir)?, keep)?;

    let _control = control.enter();
    let data = prepared.start()?;
    let mode = Mode::Member { started_by_up: options.started_by_up };
    let (streams, arriving) = services::queue();
    let io = data.io().clone();
    let swarm = swarm(&files, &keypair, options.version, &node, mode, Some(streams), io.clone())?;
    if let Some(dir) = files.state.socket_dir_elsewhere() {
        create_private_dir(dir)?;
    }
    let server = control.block_on(Server::bind(BindOptions {
        socket: files.state.socket.clone(),
        cookie: files.state.cookie.clone(),
        allowed_uids: vec![0, user.uid],
        group,
        owner: None,
    }))?;
    let (sender, requests) = mpsc::channel(REQUESTS);
    let (interface, device) = up.unzip();
    let version = options.version;
    let parts = Parts { mode, version, files, keys, node, swarm, data, interface, userspace, requests };
    let mut controller = Controller::new(parts)?;
    controller.services.serve(arriving, &io);
    let handle = NodeHandle::new(sender, io);
    controller.observer = control.block_on(Observer::start(
        &controller.files,
        version,
        &mut controller.swarm,
        handle.clone(),
    ))?;
    let server = match &controller.observer {
        Some(observer) => {
            observer.watch(&controller.services.served);
            server.observed_by(observer.requests())
        }
        None => server,
    };
    control.block_on(async {
        if let Some(device) = device {
            controller.data.send(Command::Attach(device)).await;
        }
        controller.prepare().await;
    });
    let report = ReadyReport {
        interface: controller.interface.as_ref().map(|interface| interface.name().to_owned()),
        addresses: controller.node.membership().own_addrs().iter().collect(),
        name: controller.node.name().map(ToString::to_string),
        peers: controller
            .keys
            .entries()
            .map(|entry| view::display_name(&controller, &entry.peer()))
            .collect(),
    };
    peerup_service::notify::ready();
    drop(_control);
    Ok((Running { control, controller, server, handle }, report))
}

/// Lets the group of `api.group` into the directory while that may still take a privilege.
fn shared_with(files: &Files) -> Result<Option<SocketGroup>, DaemonError> {
    let Some(name) = &files.config.api.group else { return Ok(None) };
    let group = UserGroup::named(name.as_str())?;
    if let Some(dir) = files.state.socket_dir_elsewhere() {
        tracing::warn!(dir = %dir.display(), "api.group: the path is too long for a socket, and where it went only its owner may enter");
        return Ok(None);
    }
    group.share(&files.state.dir)?;
    Ok(Some(SocketGroup { admits: Arc::new(move |uid, gid| group.has_member(uid, gid)) }))
}

/// Fewer descriptors mean fewer sessions, and no other harm.
fn allow_many_sessions() {
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

async fn interface_up(
    files: &Files,
    node: &Node,
    userspace: bool,
    io: &Handle,
) -> Result<(Interface, AnyDevice), DaemonError> {
    Interface::up(interface_settings(files, node, userspace), node.membership().own_addrs(), io).await
}

fn control_runtime() -> Result<runtime::Runtime, DaemonError> {
    runtime::Builder::new_current_thread().enable_all().build().map_err(DaemonError::Runtime)
}

fn node(files: &Files, keypair: &Keypair) -> Result<Node, DaemonError> {
    let membership: Membership = files.membership(keypair.clone())?;
    let config = NodeConfig {
        name: files.config.name.clone(),
        network: files.config.discovery.network.clone(),
        mtu: files.config.vpn.mtu,
        boot_epoch: peerup_clock::unix_millis(),
        external: files.config.network.external_addresses.clone(),
        seed: rand::rng().random(),
    };
    Ok(Node::new(config, membership))
}

/// The interface needs an address before anybody is connected: the pinned one, the claimed one, or a fresh claim.
fn own_address(
    files: &Files,
    keys: &peerup_trust::authorized_keys::AuthorizedKeys,
    node: &mut Node,
) -> Result<(), DaemonError> {
    let unix = peerup_clock::unix();
    let members = members(keys, unix);
    if let Err(error) = node.set_members(members, files.config.vpn.address, peerup_clock::now(), unix) {
        tracing::error!(%error, "a pinned address is not used");
    }
    node.membership_mut().ensure_own(unix)?;
    node.follow_membership();
    Ok(())
}

fn swarm(
    files: &Files,
    keypair: &Keypair,
    version: &str,
    node: &Node,
    mode: Mode,
    services: Option<futures::channel::mpsc::Sender<InboundStream>>,
    io: Handle,
) -> Result<PeerSwarm, DaemonError> {
    let network = files.config.discovery.network.as_ref();
    let membership = node.membership();
    let member = matches!(mode, Mode::Member { .. } | Mode::Visitor);
    let mut swarm = PeerSwarm::new(SwarmConfig {
        keypair: keypair.clone(),
        agent: format!("peerup/{version}"),
        dht_protocol: protocol::kad_protocol(network),
        overlay: vec![membership.prefix().into(), membership.v6_prefix().into()],
        profile: Profile::Node {
            mdns: member && files.config.discovery.mdns.is_auto(),
            relaying: member.then(|| relay_limits(&files.config.network.relaying)),
            punches_over: Some(protocol::TUN),
        },
        authorized_protocols: if member {
            vec![protocol::TUN, protocol::INVITE, protocol::PEER_NOTIFY]
        } else {
            vec![protocol::INVITE]
        },
        infrastructure_protocols: vec![protocol::PEER_NOTIFY],
        guest_protocols: vec![protocol::INVITE],
        services,
        io,
    })?;
    for address in files.listen_addresses()? {
        // A host without IPv6 has nothing to listen on there; that is no reason to fail.
        if let Err(error) = swarm.listen(address) {
            tracing::warn!(%error, "not listening there");
        }
    }
    for address in &files.config.network.external_addresses {
        swarm.add_external_address(address.clone());
    }
    let servers = &files.config.discovery.bootstrap_peers;
    swarm.bootstrap_from(servers.iter().map(|server| (server.peer(), server.address().clone())).collect());
    Ok(swarm)
}
