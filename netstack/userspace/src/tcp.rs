//! One TCP connection: a smoltcp interface with a single socket.
//!
//! smoltcp looks at every socket of an interface for every packet. With an interface per connection that is one, and
//! finding the connection is this crate's business; an interface without a link layer is a few hundred bytes.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use peerup_packet::IpPacket;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, SegmentationCapabilities, TxToken},
    socket::tcp::{CongestionControl, ConnectError, ListenError, Socket, SocketBuffer, State},
    time::{Duration as SmolDuration, Instant as SmolInstant},
    wire::{HardwareAddress, IpAddress, IpCidr},
};

use crate::{
    frame::{HEADER, finish_tcp},
    limits::{TCP_KEEP_ALIVE, TCP_TIMEOUT},
    mss::{self, STRIDE},
};

/// The longest IP packet: what a super-packet may measure.
const LONGEST: usize = u16::MAX as usize;
const TCP_HEADER: u16 = 20;
/// What a peer that names no MSS takes (RFC 9293 §3.7.1).
const DEFAULT_MSS: u16 = 536;
/// A peer that asks for less would have us send mostly headers; Linux has the same floor (`tcp_min_snd_mss` is 48).
const MIN_MSS: u16 = 88;

/// What every connection of a stack shares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared {
    pub mtu: usize,
    /// smoltcp counts time from here.
    pub epoch: Instant,
}

impl Shared {
    pub fn at(&self, now: Instant) -> SmolInstant {
        let micros = now.saturating_duration_since(self.epoch).as_micros();
        SmolInstant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn back(&self, at: SmolInstant) -> Instant {
        self.epoch + Duration::from_micros(at.total_micros().max(0) as u64)
    }
}

/// When a connection has something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    At(Instant),
    Never,
}

pub(crate) struct Tcp {
    segments: Segments,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl Tcp {
    /// A connection that answers the SYN it is about to be handed.
    pub fn listen(
        local: SocketAddr,
        buffer: usize,
        seed: u64,
        shared: &Shared,
        now: Instant,
    ) -> Result<Self, ListenError> {
        let mut tcp = Self::new(local, buffer, seed, shared, now);
        tcp.socket().listen(local)?;
        Ok(tcp)
    }

    /// A connection that sends a SYN as soon as it is polled.
    pub fn connect(
        local: SocketAddr,
        remote: SocketAddr,
        buffer: usize,
        seed: u64,
        shared: &Shared,
        now: Instant,
    ) -> Result<Self, ConnectError> {
        let mut tcp = Self::new(local, buffer, seed, shared, now);
        let Self { interface, sockets, handle, .. } = &mut tcp;
        sockets.get_mut::<Socket<'_>>(*handle).connect(interface.context(), remote, local)?;
        Ok(tcp)
    }

    fn new(local: SocketAddr, buffer: usize, seed: u64, shared: &Shared, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let segments = Segments::of(local, shared.mtu as u16);
        let mut wire = Wire::new(segments, None, &mut []);
        let mut interface = Interface::new(config, &mut wire, shared.at(now));
        // Prefix length 0: everybody is a neighbour, so no route is looked up.
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(IpAddress::from(local.ip()), 0));
        });
        let ring = || SocketBuffer::new(vec![0; buffer]);
        let mut socket = Socket::new(ring(), ring());
        // Whoever writes here is a relay of somebody else's writes; waiting for more of them is not its business.
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(CongestionControl::Cubic);
        socket.set_timeout(Some(TCP_TIMEOUT.into()));
        socket.set_keep_alive(Some(SmolDuration::from(TCP_KEEP_ALIVE)));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self { segments, interface, sockets, handle }
    }

    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    /// Takes a packet, of any length. An answer that cannot wait is written to `answer`.
    pub fn ingest(
        &mut self,
        packet: &IpPacket<'_>,
        answer: &mut [u8],
        shared: &Shared,
        now: Instant,
    ) -> Option<usize> {
        let stretched = self.segments.learn(packet);
        let bytes = stretched.as_deref().unwrap_or(packet.as_bytes());
        let mut wire = Wire::new(self.segments, Some(bytes), answer);
        self.interface.poll_ingress_single(shared.at(now), &mut wire, &mut self.sockets);
        wire.written
    }

    /// Writes one frame to `buffer`, if there is anything to send.
    pub fn emit(&mut self, buffer: &mut [u8], shared: &Shared, now: Instant) -> Option<usize> {
        let mut wire = Wire::new(self.segments, None, buffer);
        self.interface.poll_egress(shared.at(now), &mut wire, &mut self.sockets);
        wire.written
    }

    pub fn due(&mut self, shared: &Shared, now: Instant) -> Due {
        let now = shared.at(now);
        match self.interface.poll_at(now, &self.sockets) {
            None => Due::Never,
            Some(at) if at <= now => Due::Now,
            Some(at) => Due::At(shared.back(at)),
        }
    }
}

/// How long segments are: what smoltcp is told, and what is true.
#[derive(Debug, Clone, Copy)]
struct Segments {
    /// IP and TCP header.
    headers: u16,
    /// The longest that we take.
    own: u16,
    /// The longest that both sides take.
    effective: u16,
}

impl Segments {
    fn of(local: SocketAddr, mtu: u16) -> Self {
        let headers = TCP_HEADER + if local.is_ipv4() { 20 } else { 40 };
        let own = mtu - headers;
        Self { headers, own, effective: DEFAULT_MSS.min(own) }
    }

    /// Takes the MSS from a SYN, and gives the SYN that smoltcp is to see.
    fn learn(&mut self, packet: &IpPacket<'_>) -> Option<Vec<u8>> {
        let asked = mss::get(packet.payload())?;
        self.effective = asked.clamp(MIN_MSS, self.own);
        let mut bytes = packet.as_bytes().to_vec();
        let tcp_at = bytes.len() - packet.payload().len();
        mss::set(&mut bytes[tcp_at..], self.effective.saturating_mul(STRIDE));
        Some(bytes)
    }
}

/// The device that smoltcp sees: one packet in, room for one frame out.
struct Wire<'a> {
    segments: Segments,
    incoming: Option<&'a [u8]>,
    buffer: &'a mut [u8],
    written: Option<usize>,
}

impl<'a> Wire<'a> {
    fn new(segments: Segments, incoming: Option<&'a [u8]>, buffer: &'a mut [u8]) -> Self {
        Self { segments, incoming, buffer, written: None }
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot { buffer: self.buffer, written: &mut self.written, segments: self.segments }
    }
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = Packet<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Slot<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: SmolInstant) -> Option<(Packet<'_>, Slot<'_>)> {
        let packet = Packet(self.incoming.take()?);
        Some((packet, self.slot()))
    }

    fn transmit(&mut self, _now: SmolInstant) -> Option<Slot<'_>> {
        if self.written.is_some() { None } else { Some(self.slot()) }
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let Segments { headers, own, .. } = self.segments;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit =
            LONGEST.min(usize::from(headers) + usize::from(own) * usize::from(STRIDE));
        // Incoming sums may be incomplete and the carrier authenticates every byte; outgoing ones are completed by
        // the far kernel.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::None;
        let mut segmentation = SegmentationCapabilities::default();
        segmentation.tcpv4 = NonZeroUsize::new(LONGEST);
        segmentation.tcpv6 = NonZeroUsize::new(LONGEST);
        capabilities.segmentation = segmentation;
        capabilities
    }
}

struct Packet<'a>(&'a [u8]);

impl RxToken for Packet<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

struct Slot<'a> {
    buffer: &'a mut [u8],
    written: &'a mut Option<usize>,
    segments: Segments,
}

impl TxToken for Slot<'_> {
    /// What does not fit is lost, as on any link: only answers without payload are given less than a whole buffer.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let Self { buffer, written, segments } = self;
        let Some(frame) = buffer.get_mut(..HEADER + len) else { return write(&mut vec![0; len]) };
        let result = write(&mut frame[HEADER..]);
        finish_tcp(frame, segments.effective, segments.own);
        *written = Some(frame.len());
        result
    }
}
