//! Hosts made of one transport each, without a swarm: they listen, dial, accept and exchange streams.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        Endpoint,
        muxing::{StreamMuxer, StreamMuxerBox, SubstreamBox},
        transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
        upgrade::Version,
    },
    identity::Keypair,
    quic, tcp, tls, yamux,
};
use peerup_transport::{Credentials, Tls, quic as own_quic};
use tokio::sync::{mpsc, oneshot};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// Which implementation a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    OurTcp,
    StockTcp,
    OurQuic,
    StockQuic,
}

/// TCP and yamux as both sides have them; only the security differs.
macro_rules! over_tcp {
    ($security:expr) => {
        tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(Version::V1Lazy)
            .authenticate($security)
            .multiplex(yamux::Config::default())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed()
    };
}
pub struct Host {
    pub peer: PeerId,
    transport: Boxed<(PeerId, StreamMuxerBox)>,
}

pub struct Accepted {
    pub peer: PeerId,
    pub link: Link,
    pub local: Multiaddr,
    pub remote: Multiaddr,
}

pub type Dialing = BoxFuture<'static, std::io::Result<(PeerId, Link)>>;

impl Host {
    pub fn new(kind: Kind) -> Self {
        Self::with_key(kind, &Keypair::generate_ed25519())
    }

    pub fn with_key(kind: Kind, key: &Keypair) -> Self {
        let transport = match kind {
            Kind::OurTcp => over_tcp!(Tls::new(&Credentials::new(key).unwrap())),
            Kind::StockTcp => over_tcp!(tls::Config::new(key).unwrap()),
            Kind::OurQuic => return Self::quic(key, |config| config),
            Kind::StockQuic => quic::tokio::Transport::new(quic::Config::new(key))
                .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
                .boxed(),
        };
        Self { peer: key.public().to_peer_id(), transport }
    }

    /// Ours, configured.
    pub fn quic(key: &Keypair, configure: impl FnOnce(own_quic::Config) -> own_quic::Config) -> Self {
        let config = configure(own_quic::Config::new(&Credentials::new(key).unwrap()));
        let transport = own_quic::Transport::new(config)
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed();
        Self { peer: key.public().to_peer_id(), transport }
    }

    /// Listens and waits for the first address, without the peer ID.
    pub async fn listen(&mut self, address: &str) -> Multiaddr {
        self.listen_as(ListenerId::next(), address).await
    }

    pub async fn listen_as(&mut self, id: ListenerId, address: &str) -> Multiaddr {
        self.transport.listen_on(id, address.parse().unwrap()).unwrap();
        loop {
            if let TransportEvent::NewAddress { listen_addr, .. } = self.event().await {
                return listen_addr;
            }
        }
    }

    pub fn unlisten(&mut self, id: ListenerId) -> bool {
        self.transport.remove_listener(id)
    }

    pub fn dial(&mut self, address: Multiaddr) -> Dialing {
        self.dial_with(address, PortUse::Reuse, Endpoint::Dialer)
    }

    pub fn dial_with(&mut self, address: Multiaddr, port_use: PortUse, role: Endpoint) -> Dialing {
        let dial = self.transport.dial(address, DialOpts { role, port_use }).unwrap();
        async move { dial.await.map(|(peer, muxer)| (peer, Link::new(muxer))) }.boxed()
    }

    pub async fn accept(&mut self) -> Accepted {
        loop {
            if let TransportEvent::Incoming { upgrade, local_addr, send_back_addr, .. } = self.event().await
                && let Ok((peer, muxer)) = upgrade.await
            {
                let (local, remote) = (local_addr, send_back_addr);
                return Accepted { peer, link: Link::new(muxer), local, remote };
            }
        }
    }

    pub async fn event(
        &mut self,
    ) -> TransportEvent<BoxFuture<'static, std::io::Result<(PeerId, StreamMuxerBox)>>, std::io::Error> {
        let event = poll_fn(|cx| Pin::new(&mut self.transport).poll(cx)).await;
        event.map_upgrade(|upgrade| upgrade.boxed())
    }
}

/// Dials, accepts, and says what both ends saw.
pub async fn connect(dialer: &mut Host, listener: &mut Host, address: &Multiaddr) -> (Link, Accepted) {
    let dial = dialer.dial(address.clone().with_p2p(listener.peer).unwrap());
    let (dialed, accepted) =
        tokio::time::timeout(DEADLINE, futures::future::join(dial, listener.accept())).await.unwrap();
    let (peer, link) = dialed.unwrap();
    assert_eq!((peer, accepted.peer), (listener.peer, dialer.peer));
    (link, accepted)
}

/// A connection driven by a task of its own.
pub struct Link {
    opens: mpsc::Sender<oneshot::Sender<SubstreamBox>>,
    inbound: mpsc::Receiver<SubstreamBox>,
    close: Option<oneshot::Sender<()>>,
    driver: tokio::task::JoinHandle<Result<(), String>>,
}

impl Link {
    fn new(muxer: StreamMuxerBox) -> Self {
        let (opens, wanted) = mpsc::channel(1024);
        let (accepted, inbound) = mpsc::channel(1024);
        let (close, closing) = oneshot::channel();
        let driver = tokio::spawn(drive(muxer, wanted, accepted, closing));
        Self { opens, inbound, close: Some(close), driver }
    }

    pub async fn open(&self) -> SubstreamBox {
        let (reply, opened) = oneshot::channel();
        self.opens.send(reply).await.unwrap();
        opened.await.unwrap()
    }

    pub async fn accept(&mut self) -> SubstreamBox {
        self.next().await.expect("the connection lives")
    }

    /// The next stream of the other side, or none when the connection has ended.
    pub async fn next(&mut self) -> Option<SubstreamBox> {
        self.inbound.recv().await
    }

    /// Ends the connection from this side; says how it ended.
    pub async fn close(mut self) -> Result<(), String> {
        let _ = self.close.take().expect("closed once").send(());
        self.driver.await.unwrap()
    }

    /// Waits until the other side or the network ends the connection.
    pub async fn ended(self) -> String {
        tokio::time::timeout(DEADLINE, self.driver).await.unwrap().unwrap().unwrap_err()
    }

    /// Drops the muxer without closing it.
    pub fn drop_muxer(&self) {
        self.driver.abort();
    }
}

async fn drive(
    mut muxer: StreamMuxerBox,
    mut wanted: mpsc::Receiver<oneshot::Sender<SubstreamBox>>,
    accepted: mpsc::Sender<SubstreamBox>,
    mut closing: oneshot::Receiver<()>,
) -> Result<(), String> {
    let mut opening: Option<oneshot::Sender<SubstreamBox>> = None;
    let mut is_closing = false;
    poll_fn(move |cx| {
        let mut muxer = Pin::new(&mut muxer);
        is_closing = is_closing || matches!(closing.poll_unpin(cx), Poll::Ready(Ok(())));
        if is_closing {
            return muxer.poll_close(cx).map_err(|error| format!("{error:?}"));
        }
        loop {
            if opening.is_none()
                && let Poll::Ready(Some(next)) = wanted.poll_recv(cx)
            {
                opening = Some(next);
            }
            let mut progressed = false;
            if opening.is_some()
                && let Poll::Ready(stream) = muxer.as_mut().poll_outbound(cx)
            {
                let stream = stream.map_err(|error| format!("{error:?}"))?;
                let _ = opening.take().expect("checked").send(stream);
                progressed = true;
            }
            if let Poll::Ready(stream) = muxer.as_mut().poll_inbound(cx) {
                let _ = accepted.try_send(stream.map_err(|error| format!("{error:?}"))?);
                progressed = true;
            }
            if let Poll::Ready(event) = muxer.as_mut().poll(cx) {
                event.map_err(|error| format!("{error:?}"))?;
                progressed = true;
            }
            if !progressed {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Sends `blocks` of 64 KiB and the SHA-256 of all of them; ends the direction.
pub async fn send_checked(stream: &mut (impl futures::AsyncWrite + Unpin), blocks: u32) {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut block: Vec<u8> =
        (0..64 * 1024u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for number in 0..blocks {
        block[..4].copy_from_slice(&number.to_be_bytes());
        digest.update(&block);
        stream.write_all(&block).await.unwrap();
    }
    stream.write_all(digest.finish().as_ref()).await.unwrap();
    stream.close().await.unwrap();
}

/// Reads to the end and compares the checksum.
pub async fn receive_checked(stream: &mut (impl futures::AsyncRead + Unpin), blocks: u32) {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut block = vec![0; 64 * 1024];
    for _ in 0..blocks {
        stream.read_exact(&mut block).await.unwrap();
        digest.update(&block);
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, digest.finish().as_ref(), "the checksum differs");
}

/// Both ends send and receive at once on one stream.
pub async fn exchange(a: SubstreamBox, b: SubstreamBox, blocks: u32) {
    let (mut a_read, mut a_write) = a.split();
    let (mut b_read, mut b_write) = b.split();
    let all = futures::future::join4(
        send_checked(&mut a_write, blocks),
        receive_checked(&mut b_read, blocks),
        send_checked(&mut b_write, blocks),
        receive_checked(&mut a_read, blocks),
    );
    tokio::time::timeout(DEADLINE * 3, all).await.expect("the transfer finishes");
}

/// A new stream between two links; the opener writes first, as both yamux and QUIC announce a stream with its data.
pub async fn stream_between(opener: &Link, acceptor: &mut Link) -> (SubstreamBox, SubstreamBox) {
    let mut near = opener.open().await;
    near.write_all(b"!").await.unwrap();
    near.flush().await.unwrap();
    let mut far = tokio::time::timeout(DEADLINE, acceptor.accept()).await.unwrap();
    far.read_exact(&mut [0]).await.unwrap();
    (near, far)
}

/// All items of a stream of futures, in any order.
pub async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures.into_iter().collect::<futures::stream::FuturesUnordered<_>>().collect().await
}
