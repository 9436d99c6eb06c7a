//! `peerup events`: what happens, as it happens, until Ctrl-C.

use clap::Args;
use peerup_control::{
    Runtime,
    api::{Event, Happening, OverviewClass, PathBrief},
};
use peerup_types::{CarrierKind, Family, PeerId};

use super::{Context, block_on};
use crate::{
    failure::{Exit, Failure},
    render::{name_of, status::severity},
};

#[derive(Debug, Args)]
pub struct Events {
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

pub fn run(context: &Context, args: &Events) -> Result<Exit, Failure> {
    block_on(async {
        let mut events = context.place.daemon().await?.events().await?;
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Ok),
            };
            let Some(event) = event else {
                return Err(Failure::new("the daemon has stopped").exit(Exit::NotRunning));
            };
            match args.json {
                true => {
                    let line = serde_json::to_string(&event).expect("events have string keys only");
                    context.terminal.line(line)?;
                }
                false => context.terminal.line(line(&event))?,
            }
        }
    })
}

fn line(event: &Event) -> String {
    let what = match &event.what {
        Happening::PathChanged { peer, name, from, to, reason } => {
            format!("{}: {} → {} ({reason})", who(name, peer), brief(from), brief(to))
        }
        Happening::PeerUp { peer, name } => format!("{}: up", who(name, peer)),
        Happening::PeerDown { peer, name } => format!("{}: down", who(name, peer)),
        Happening::RelayReserved { relay } => format!("relay {relay}: reservation held"),
        Happening::RelayLost { relay } => format!("relay {relay}: reservation lost"),
        Happening::HealthRaised { item } => {
            format!("! {}: {} - {}", severity(item.severity), item.code, item.text)
        }
        Happening::HealthCleared { code } => format!("! {code}: over"),
        Happening::Missed { count } => format!("({count} events left out: this reader was too slow)"),
    };
    format!("{}  {what}", event.at)
}

fn who(name: &Option<String>, peer: &PeerId) -> String {
    name_of(name.as_deref(), peer)
}

fn brief(path: &Option<PathBrief>) -> String {
    let Some(path) = path else { return "offline".into() };
    let family = match path.family {
        Family::Ipv6 => "v6",
        Family::Ipv4 => "v4",
    };
    let tcp = if path.carrier == CarrierKind::TcpStream { "+tcp" } else { "" };
    match path.class {
        OverviewClass::Direct => format!("direct {family}{tcp}"),
        OverviewClass::PeerRelay => format!("peer-relay {family}{tcp}"),
        OverviewClass::Relay => format!("relay {family}{tcp}"),
        OverviewClass::Connecting => "connecting".into(),
    }
}

#[cfg(test)]
mod tests {
    use peerup_control::api::Timestamp;

    use super::*;

    #[test]
    fn a_change_of_path_reads_from_left_to_right() {
        let peer: PeerId = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx".parse().unwrap();
        let path = |class, family, carrier| Some(PathBrief { class, family, carrier });
        let what = Happening::PathChanged {
            peer,
            name: Some("home".into()),
            from: path(OverviewClass::Relay, Family::Ipv4, CarrierKind::RelayStream),
            to: path(OverviewClass::Direct, Family::Ipv6, CarrierKind::QuicStream),
            reason: "a better path is ready".into(),
        };
        let shown = line(&Event { at: Timestamp::from_unix(0), what });
        assert_eq!(shown, "1970-01-01T00:00:00Z  home: relay v4 → direct v6 (a better path is ready)");
    }
}
