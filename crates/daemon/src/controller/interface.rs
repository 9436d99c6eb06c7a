//! The interface of this node: up, and down again.

use std::net::IpAddr;

use peerup_control::api::UpReport;
use peerup_node::Node;
use tokio::sync::oneshot;

use super::Controller;
use crate::{
    data::Command,
    error::{DaemonError, describe},
    files::Files,
    interface::{Interface, InterfaceSettings},
};

impl Controller {
    pub async fn bring_up(&mut self) -> Result<UpReport, DaemonError> {
        let already_up = self.interface.is_some();
        if !already_up {
            let settings = interface_settings(&self.files, &self.node);
            let addresses = self.node.membership().own_addrs();
            let (interface, device) = Interface::up(settings, addresses, self.data.io()).await?;
            self.interface = Some(interface);
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

    pub(super) async fn route(&mut self, hosts: Vec<IpAddr>) {
        if let Some(interface) = &mut self.interface
            && let Err(error) = interface.route(&hosts).await
        {
            tracing::error!(error = %describe(&error), "cannot set the routes to peers");
        }
        self.hosts = hosts;
    }
}

pub fn interface_settings(files: &Files, node: &Node) -> InterfaceSettings {
    let vpn = &files.config.vpn;
    InterfaceSettings {
        name: vpn.interface.as_str().to_owned(),
        mtu: vpn.mtu,
        v4_range: vpn.cidr,
        v6_range: node.membership().v6_prefix(),
        journal: files.state.netcfg_journal.clone(),
    }
}
