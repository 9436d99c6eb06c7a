//! TCP, UDP and ICMP echo for a node that has its overlay addresses and no network device.
//!
//! A [`Stack`] stands where a TUN device would: frames from peers go in ([`Stack::handle_frame`]), frames for peers
//! come out ([`Stack::poll_frame`]), framed as `peerup-tun` documents (a virtio header and a packet of up to 64 KiB),
//! so peers cannot tell it from a kernel. On its other side are flows, which a shell joins to sockets of the host:
//!
//! ```text
//!  frame → reassembly → nat ─► exec session
//!                        └─► tcp (one smoltcp socket per flow) · udp · echo
//!                                  ⇅ FlowId, UdpId
//!                          the shell's sockets on 127.0.0.1, SOCKS, `nc`
//! ```
//!
//! A SYN from a peer becomes [`Event::Accept`]: the shell dials the local service first, and only then is the
//! handshake answered, with a SYN-ACK or, refused, with a RST. That way a peer sees the same as if the service's own
//! kernel had answered. UDP likewise: nobody there becomes ICMP "port unreachable".
//!
//! # Bounds
//! Nothing is queued for a peer: [`Stack::poll_frame`] makes one frame at a time, flow after flow, straight into the
//! caller's buffer. Each flow owns two ring buffers whose sizes come from one budget ([`limits`]); a reader that
//! stops reading closes its window, and no memory grows.
//!
//! # Speed
//! Segments arrive as super-packets and are taken whole; they leave as super-packets of up to 64 KiB, cut by whoever
//! comes last. Checksums are left to the far kernel, which the virtio header tells (docs/adr/0057).
//!
//! Never here: sockets, names, access rules (the router applies them before a frame arrives), and the clock.
#![forbid(unsafe_code)]

mod datagram;
mod echo;
mod fragment;
mod frame;
pub mod limits;
mod mss;
mod nat;
mod ports;
mod stack;
mod tcp;
mod udp;

pub use nat::SessionId;
pub use stack::{ConnectError, Event, FlowId, Read, Settings, Stack, Write};
pub use udp::UdpId;
