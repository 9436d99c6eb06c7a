//! The interface of this node: up, and down again.

use std::net::IpAddr;

use peerup_control::{ApiError, ErrorKind, api::UpReport};
use peerup_node::Node;
use tokio::sync::oneshot;

use super::Controller;
use crate::{
    data::Command,
    error::{DaemonError, describe},
    files::Files,
    front::{Dialer, Doors},
    interface::{Interface, InterfaceSettings},
    userspace::Inbound,
};

impl Controller {
    pub async fn bring_up(&mut self) -> Result<UpReport, DaemonError> {
        let already_up = self.interface.is_some();
        if !already_up {
            let settings = interface_settings(&self.files, &self.node, self.userspace);
            let addresses = self.node.membership().own_addrs();
            let (interface, device) = Interface::up(settings, addresses, self.data.io()).await?;
            self.interface = Some(interface);
            self.open_ports();
            self.data.send(Command::Attach(device)).await;
            self.route(self.hosts.clone()).await;
        }
        Ok(self.up_report(already_up))
    }

    pub async fn take_down(&mut self) -> Result<Option<String>, DaemonError> {
        let Some(interface) = self.interface.take() else { return Ok(None) };
        let name = interface.name().to_owned();
        let undone = interface.down().await;
        // The link goes with the last handle of its device.
        let (closed, closing) = oneshot::channel();
        self.data.send(Command::Detach(closed)).await;
        let _ = closing.await;
        undone.map(|()| Some(name))
    }

    /// What peers reach on this host where connections end in this process: on its loopback `service_ports`.
    pub(super) fn open_ports(&self) {
        if let Some(network) = self.interface.as_ref().and_then(Interface::userspace) {
            let config = &self.files.config;
            let loopback = config.service_ports.clone();
            network.set_inbound(Inbound { allowed: config.vpn.inbound, loopback });
        }
    }

    /// How programs of this host get into the overlay.
    pub(super) fn doors(&self) -> Result<Doors, ApiError> {
        let Some(interface) = &self.interface else {
            return Err(
                ApiError::new(ErrorKind::Conflict, "the overlay is down on this node").with_hint("peerup up")
            );
        };
        let dialer = match interface.userspace() {
            Some(network) => Dialer::Userspace(network.clone()),
            None => Dialer::Interface(interface.name().to_owned()),
        };
        let vpn = &self.files.config.vpn;
        Ok(Doors {
            dialer,
            io: self.data.io().clone(),
            addresses: self.node.membership().own_addrs(),
            ranges: vec![vpn.cidr.into(), self.node.membership().v6_prefix().into()],
            mtu: vpn.mtu,
        })
    }

    pub(super) async fn route(&mut self, hosts: Vec<IpAddr>) {
        if let Some(interface) = &mut self.interface
            && let Err(error) = interface.route(&hosts).await
        {
            tracing::error!(error = %describe(&error), "cannot set the routes to peers");
        }
        self.hosts = hosts;
    }
}

pub fn interface_settings(files: &Files, node: &Node, userspace: bool) -> InterfaceSettings {
    let vpn = &files.config.vpn;
    InterfaceSettings {
        userspace,
        name: vpn.interface.as_str().to_owned(),
        mtu: vpn.mtu,
        v4_range: vpn.cidr,
        v6_range: node.membership().v6_prefix(),
        journal: files.state.netcfg_journal.clone(),
    }
}
