//! peerup, held to one carrier or left to choose.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use peerup_lab::peerup::{INVITER, JOINER, Node, PathView, Relay};
use peerup_lab::{Host, Lab, Show};

use super::{A, B, Overlay, Subject};

/// The relay's address, beyond both hosts' own networks.
pub const RELAY: &str = "203.0.113.3";

const PORT: u16 = 24001;

const SETTLED: Duration = Duration::from_secs(40);

pub struct Peerup {
    subject: Subject,
    a: Node,
    b: Node,
    relay: Option<Relay>,
}

impl Peerup {
    /// Two nodes that know each other and where to find each other.
    pub fn direct(subject: Subject, a: &Host, b: &Host) -> Result<Self> {
        let [a, b] = [a, b].map(|host| Node::new(host.clone(), Show::Nothing));
        for (node, address) in [(&a, INVITER), (&b, JOINER)] {
            node.init_without_relay()?;
            node.fix_address(address)?;
            configure(subject, node)?;
        }
        acquaint(&a, &b, B)?;
        acquaint(&b, &a, A)?;
        a.up()?;
        b.up()?;
        Ok(Self { subject, a, b, relay: None })
    }

    /// Two nodes that have only a relay in common: each has its own cable to it, and it forwards nothing by itself.
    pub fn relayed(lab: &mut Lab, a: &Host, b: &Host) -> Result<Self> {
        let vps = lab.host("relay")?;
        vps.ask(&format!("ip addr add {RELAY}/32 dev lo && sysctl -qw net.ipv4.ip_forward=0"))?;
        for (host, network) in [(a, "198.51.100"), (b, "192.0.2")] {
            lab.cable((host, &format!("{network}.1/24")), (&vps, &format!("{network}.2/24")))?;
            host.default_route(format!("{network}.2").parse()?)?;
        }
        let relay = Relay::start(&vps, RELAY, Show::Nothing)?;
        let [a, b] = [a, b].map(|host| Node::new(host.clone(), Show::Nothing));
        a.init(&relay.multiaddr())?;
        relay.authorize(&a.id()?, "a")?;
        let invitation = a.invite()?;
        b.join(&invitation.code)?;
        invitation.joined()?;
        a.up()?;
        b.up()?;
        Ok(Self { subject: Subject::PeerupRelay, a, b, relay: Some(relay) })
    }

    fn path(&self) -> Result<PathView> {
        self.a.status()?.peer("b")?.path.context("no path to b")
    }

    /// Whether the reliable lane is the meant one, and QUIC is there for datagrams where they are to be used.
    fn is_as_meant(&self, path: &PathView) -> Result<bool> {
        let class = if self.relay.is_some() { "relay" } else { "direct" };
        Ok(path.class == class
            && match self.subject {
                Subject::PeerupTcp => path.carrier == "tcp-stream",
                // One for reliable frames, and one for datagrams.
                Subject::PeerupQuic => path.carrier == "quic-stream" && self.a.quic_connections()? == 2,
                Subject::Peerup | Subject::PeerupDatagram => self.a.quic_connections()? > 0,
                _ => true,
            })
    }
}

impl Overlay for Peerup {
    fn daemons(&self) -> Result<Vec<Pid>> {
        Ok(vec![self.a.daemon_pid()?, self.b.daemon_pid()?])
    }

    fn relay(&self) -> Result<Option<Pid>> {
        let Some(relay) = &self.relay else { return Ok(None) };
        let programs = relay.host().programs().into_iter();
        let program = format!("{} relay serve", peerup_lab::peerup::binary()?.display());
        let serving = programs.filter(|(_, line)| line.starts_with(&program)).map(|(pid, _)| pid).next();
        serving.context("no relay runs").map(Some)
    }

    fn settle(&self) -> Result<()> {
        let meant = || self.path().and_then(|path| self.is_as_meant(&path)).unwrap_or(false);
        let settled = self.a.host().wait_until("the path is the one that is measured", SETTLED, meant);
        settled.map(drop).with_context(|| format!("it is {:?}", self.path()))
    }

    fn carrier(&self) -> Result<String> {
        let path = self.path()?;
        ensure!(self.is_as_meant(&path)?, "measured over {path:?}");
        let beside = match self.subject {
            Subject::Peerup => ", quic-datagram",
            Subject::PeerupQuic => ", quic-datagram of a second connection",
            Subject::PeerupDatagram => ", all packets in quic-datagram",
            _ => "",
        };
        Ok(format!("{} {}{beside}", path.class, path.carrier))
    }

    fn stop(&mut self) -> Result<()> {
        self.b.down()?;
        self.b.wait_for_no_daemon().map(drop)
    }

    fn start(&mut self) -> Result<()> {
        self.b.up().map(drop)
    }
}

/// A fixed port, and the carrier that is measured.
fn configure(subject: Subject, node: &Node) -> Result<()> {
    let listen = format!("[/ip4/0.0.0.0/tcp/{PORT}, /ip4/0.0.0.0/udp/{PORT}/quic-v1]");
    node.peerup(["config", "set", "network.listen_addresses", &listen])?;
    let (carrier, blocked) = match subject {
        Subject::PeerupTcp => ("stream", Some("udp")),
        Subject::PeerupQuic => ("auto", Some("tcp")),
        Subject::PeerupDatagram => ("datagram", None),
        _ => ("auto", None),
    };
    if carrier != "auto" {
        node.peerup(["config", "set", "vpn.carrier", carrier])?;
    }
    let Some(protocol) = blocked else { return Ok(()) };
    node.host().ask(&format!(
        "nft 'add table inet one_carrier
              add chain inet one_carrier out {{ type filter hook output priority 0; }}
              add rule inet one_carrier out oifname eth0 meta l4proto {protocol} drop'"
    ))?;
    Ok(())
}

/// `node` trusts `other` and knows where it listens, whatever multicast says.
fn acquaint(node: &Node, other: &Node, underlay: &str) -> Result<()> {
    let line = format!(
        "{}  addr=/ip4/{underlay}/tcp/{PORT} addr=/ip4/{underlay}/udp/{PORT}/quic-v1  # {}\n",
        other.id()?,
        other.name()
    );
    node.host().write(&node.dir().join("authorized_keys"), line)
}
