//! `exec` sessions: the frames of another network namespace's TUN device, as if they were this node's.

use std::sync::Arc;

use ipnet::IpNet;
use peerup_packet::gso::{self, VirtioNetHeader};
use peerup_tun::{MAX_FRAME_LEN, PassedTun, VNET_HEADER_LEN};
use peerup_types::OverlayAddrs;
use peerup_userspace::SessionId;
use tokio::runtime::Handle;

use super::{FORWARDED, Network, gateway::Gateway};

/// What lies behind a session's device besides the overlay.
pub enum Beyond {
    Nothing,
    /// What is in none of the overlay's ranges.
    Internet {
        addresses: OverlayAddrs,
        overlay: Vec<IpNet>,
    },
}

impl Network {
    /// Carries the frames of `tun` until it fails. Dropped, the session ends with all its flows.
    pub async fn carry(&self, tun: PassedTun, beyond: Beyond) -> std::io::Error {
        let tun = Arc::new(tun);
        let gateway = match beyond {
            Beyond::Nothing => None,
            Beyond::Internet { addresses, overlay } => {
                Some(Gateway::start(addresses, self.inner.mtu, overlay, tun.clone(), &Handle::current()))
            }
        };
        let id = self.with(|stack, _| stack.open_session());
        self.lock().sessions.insert(id, tun.clone());
        let _session = Session { network: self.clone(), id };
        let mut buffer = vec![0; MAX_FRAME_LEN];
        loop {
            let room = if tun.has_vnet_header() { 0 } else { VNET_HEADER_LEN };
            match tun.recv(&mut buffer[room..]).await {
                Ok(len) => {
                    buffer[..room].fill(0);
                    let frame = &mut buffer[..room + len];
                    if !gateway.as_ref().is_some_and(|gateway| gateway.take(frame)) {
                        self.forward(id, frame).await;
                    }
                }
                Err(error) => return error,
            }
        }
    }

    async fn forward(&self, session: SessionId, frame: &mut [u8]) {
        if !self.with(|stack, now| stack.leave(session, frame, now)) {
            return;
        }
        let frame = frame.to_vec();
        while self.lock().forward.len() >= FORWARDED {
            self.inner.forwarded.notified().await;
        }
        self.lock().forward.push_back(frame);
        self.inner.frames.notify_one();
    }

    /// Hands a frame to a session. Lost when its kernel is busy, as on any interface.
    pub(super) fn deliver(&self, session: SessionId, frame: &[u8]) {
        let tun = self.lock().sessions.get(&session).cloned();
        if let Some(tun) = tun
            && let Err(error) = hand_over(&tun, frame, self.inner.mtu)
        {
            tracing::trace!(%error, "an exec session did not take a frame");
        }
    }
}

/// Cut to packets where the device takes no super-packets.
pub(super) fn hand_over(tun: &PassedTun, frame: &[u8], mtu: u16) -> std::io::Result<()> {
    if tun.has_vnet_header() {
        return tun.try_send(frame);
    }
    let Some((header, packet)) = frame.split_first_chunk() else { return Ok(()) };
    let Ok(view) = gso::validate(VirtioNetHeader::parse(header), packet, usize::MAX) else { return Ok(()) };
    let Ok(mut segments) = view.segments_within(mtu.into()) else { return Ok(()) };
    let mut scratch = Vec::new();
    while let Some(packet) = segments.next(&mut scratch) {
        tun.try_send(packet)?;
    }
    Ok(())
}

struct Session {
    network: Network,
    id: SessionId,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.network.lock().sessions.remove(&self.id);
        self.network.with(|stack, _| stack.close_session(self.id));
    }
}
