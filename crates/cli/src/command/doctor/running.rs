//! What the daemon says about itself and about a peer.

use peerup_control::{
    Client, ClientError, Runtime,
    api::{
        Overview, OverviewClass, PeerOverview, PingReport, PingRequest, RelayState, Severity, StatusReport,
    },
};
use peerup_trust::authorized_keys::AuthorizedKeys;

use super::Check;
use crate::{
    command::block_on,
    failure::Failure,
    place::{NodeFiles, read_keys_text},
    render::{name_of, path, status},
};

/// What a daemon answered.
pub struct Running {
    overview: Overview,
    status: StatusReport,
}

impl Running {
    /// `None` when no daemon answers; what else went wrong is a check of its own.
    pub fn ask(node: &NodeFiles) -> Option<Self> {
        block_on(async {
            let client = Client::connect(&node.state.socket, &node.state.cookie).await?;
            Ok(Self { overview: client.overview().await?, status: client.status().await? })
        })
        .ok()
    }
}

pub fn checks(node: &NodeFiles, running: Option<&Running>) -> Vec<Check> {
    let Some(running) = running else { return vec![absent(node)] };
    let mut checks =
        vec![Check::ok("daemon", format!("the daemon runs, version {}", running.status.version))];
    if running.status.version != crate::version::VERSION {
        let text = format!("this command is version {}, the daemon is not", crate::version::VERSION);
        checks.push(Check::warning("version", text).hint("restart the daemon"));
    }
    if let Some(interface) = &running.status.interface {
        checks.push(Check::ok("interface", format!("{interface} is up")));
    }
    checks.extend(running.overview.relays.iter().map(|relay| {
        let name = name_of(relay.name.as_deref(), &relay.id);
        match relay.state {
            RelayState::Reserved => Check::ok("relay", format!("relay {name} holds a reservation")),
            RelayState::Standby => Check::ok("relay", format!("relay {name} stands by")),
            RelayState::Candidate => Check::ok("relay", format!("relay {name} is not needed")),
            RelayState::Connected => Check::warning("relay", format!("relay {name} grants no reservation"))
                .hint(format!("on the relay: peerup relay authorize {}", running.overview.this.id)),
            RelayState::Connecting => Check::warning("relay", format!("relay {name}: connecting")),
            RelayState::Offline => Check::warning("relay", format!("relay {name} cannot be reached"))
                .hint("is it running, and are TCP and UDP open on its port?"),
        }
    }));
    checks.extend(running.overview.health.iter().map(|item| {
        let check = match item.severity {
            Severity::Info => Check::note("health", format!("{}: {}", item.code, item.text)),
            Severity::Warning => Check::warning("health", format!("{}: {}", item.code, item.text)),
            Severity::Error => Check::failed("health", format!("{}: {}", item.code, item.text)),
        };
        match &item.fix {
            Some(fix) => check.hint(fix),
            None => check,
        }
    }));
    checks
}

fn absent(node: &NodeFiles) -> Check {
    let asked = block_on(async { Ok(Client::connect(&node.state.socket, &node.state.cookie).await) });
    match asked {
        Ok(Err(ClientError::NotRunning { .. })) => {
            Check::failed("daemon", "the daemon is not running").hint("peerup up")
        }
        Ok(Err(error)) => Check::of("daemon", &Failure::from(error)),
        Ok(Ok(_)) | Err(_) => {
            Check::failed("daemon", "the daemon does not answer").hint("peerup daemon stop")
        }
    }
}

pub fn peer_checks(node: &NodeFiles, running: &Running, text: &str) -> Vec<Check> {
    let Some(peer) = status::find(&running.overview, text) else {
        return vec![
            Check::failed("peer", format!("`{text}` is no peer of this node"))
                .hint("peerup auth list shows who is"),
        ];
    };
    let name = name_of(peer.name.as_deref(), &peer.id);
    let mut checks = vec![authorised(node, peer, &name)];
    checks.push(match peer.ips.first() {
        Some(ip) => Check::ok("peer-address", format!("{name} has {ip}")),
        None => Check::warning("peer-address", format!("{name} has no overlay address that this node knows"))
            .hint("it says so when it connects for the first time"),
    });
    checks.push(answer(node, peer, &name));
    checks
}

fn authorised(node: &NodeFiles, peer: &PeerOverview, name: &str) -> Check {
    let text = read_keys_text(&node.config.security.authorized_keys_file).unwrap_or_default();
    let (keys, _) = AuthorizedKeys::parse_lenient(&text);
    match keys.get(&peer.id) {
        None => Check::failed("peer-key", format!("{name} is not in authorized_keys"))
            .hint(format!("peerup auth add {}", peer.id)),
        Some(entry) if entry.is_expired(peerup_clock::unix()) => {
            Check::failed("peer-key", format!("the key of {name} has expired"))
        }
        Some(entry) if entry.verified().is_none() => {
            Check::note("peer-key", format!("{name} may connect; its key was never compared"))
                .hint(format!("peerup verify {}", peer.id))
        }
        Some(_) => Check::ok("peer-key", format!("{name} may connect")),
    }
}

fn answer(node: &NodeFiles, peer: &PeerOverview, name: &str) -> Check {
    let request = PingRequest { peer: peer.id.to_string(), count: 1, interval_ms: 1 };
    let asked = block_on(async {
        let client = Client::connect(&node.state.socket, &node.state.cookie).await?;
        Ok(client.ping(request).await?)
    });
    match asked {
        Ok(report) => judge(&report, name),
        Err(failure) => Check::of("peer-answer", &failure),
    }
}

fn judge(report: &PingReport, name: &str) -> Check {
    let Some(reply) = report.results.first() else {
        return Check::failed("peer-answer", format!("{name} was not asked"));
    };
    let (Some(rtt), Some(via)) = (reply.rtt_ms, &reply.via) else {
        return Check::failed("peer-answer", format!("{name} does not answer: {}", reply.error))
            .hint("is peerup running there, and is this machine in its authorized_keys?");
    };
    let words = path::words(Some(via), crate::render::short_id);
    let text = format!("{name} answers in {rtt:.1}ms over {words}");
    match via.class {
        OverviewClass::Direct => Check::ok("peer-answer", text),
        OverviewClass::PeerRelay | OverviewClass::Relay | OverviewClass::Connecting => {
            Check::note("peer-answer", text).hint(format!("peerup ping --until-direct {name}"))
        }
    }
}
