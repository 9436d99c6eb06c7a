//! Stock transports against ours, one connection and one stream over loopback, interleaved in one run.
//!
//! `cargo run --release -p peerup-transport --example bulk [MIB] [ROUNDS]`
//!
//! Both ends run in this process, so CPU-s/GB counts both of them. Absolute numbers belong to one machine at one
//! moment; the ratios to stock are what to compare.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program that prints")]

use std::{fs, pin::Pin, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, future::poll_fn};
use libp2p::{
    PeerId, Transport,
    core::{
        Endpoint,
        muxing::{StreamMuxer, StreamMuxerBox, SubstreamBox},
        transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
        upgrade::Version,
    },
    identity::Keypair,
    noise, quic, tcp, tls, yamux,
};
use peerup_transport::{Credentials, Tls, quic as own_quic};
use tokio::{runtime::Builder, time::Instant};

const CHUNK: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    StockTls,
    StockNoise,
    OurTls,
    StockQuic,
    OurQuic,
}

const KINDS: [(&str, Kind, Kind); 9] = [
    ("TCP noise   stock -> stock", Kind::StockNoise, Kind::StockNoise),
    ("TCP TLS     stock -> stock", Kind::StockTls, Kind::StockTls),
    ("TCP TLS     ours  -> ours ", Kind::OurTls, Kind::OurTls),
    ("TCP TLS     ours  -> stock", Kind::OurTls, Kind::StockTls),
    ("TCP TLS     stock -> ours ", Kind::StockTls, Kind::OurTls),
    ("QUIC        stock -> stock", Kind::StockQuic, Kind::StockQuic),
    ("QUIC        ours  -> ours ", Kind::OurQuic, Kind::OurQuic),
    ("QUIC        ours  -> stock", Kind::OurQuic, Kind::StockQuic),
    ("QUIC        stock -> ours ", Kind::StockQuic, Kind::OurQuic),
];

#[derive(Clone, Copy)]
struct Sample {
    gbit_s: f64,
    cpu_s_gb: f64,
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>().unwrap());
    let mib = arguments.next().unwrap_or(1024);
    let rounds = arguments.next().unwrap_or(3);
    let mut samples = vec![Vec::new(); KINDS.len()];
    for _ in 0..rounds {
        for (index, (_, sender, receiver)) in KINDS.iter().enumerate() {
            samples[index].push(measure(*sender, *receiver, mib));
        }
    }
    println!("{mib} MiB, {rounds} rounds, medians; ratios against stock TLS and stock QUIC");
    let medians: Vec<Sample> = samples.into_iter().map(median).collect();
    for ((name, ..), sample) in KINDS.iter().zip(&medians) {
        let stock = if name.starts_with("TCP") { medians[1] } else { medians[5] };
        println!(
            "{name}  {:6.2} Gbit/s ({:.2}x)  {:5.2} CPU-s/GB ({:.2}x)",
            sample.gbit_s,
            sample.gbit_s / stock.gbit_s,
            sample.cpu_s_gb,
            sample.cpu_s_gb / stock.cpu_s_gb,
        );
    }
}

fn median(mut samples: Vec<Sample>) -> Sample {
    let middle = samples.len() / 2;
    samples.sort_by(|a, b| a.gbit_s.total_cmp(&b.gbit_s));
    let gbit_s = samples[middle].gbit_s;
    samples.sort_by(|a, b| a.cpu_s_gb.total_cmp(&b.cpu_s_gb));
    Sample { gbit_s, cpu_s_gb: samples[middle].cpu_s_gb }
}

/// Each end has a thread of its own, as two daemons would.
fn measure(sender: Kind, receiver: Kind, mib: usize) -> Sample {
    let (address, listening) = std::sync::mpsc::channel();
    let receiver = std::thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
            let mut transport = transport(receiver);
            let there =
                if is_quic(receiver) { "/ip4/127.0.0.1/udp/0/quic-v1" } else { "/ip4/127.0.0.1/tcp/0" };
            transport.listen_on(ListenerId::next(), there.parse().unwrap()).unwrap();
            let muxer = loop {
                match poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await {
                    TransportEvent::NewAddress { listen_addr, .. } => address.send(listen_addr).unwrap(),
                    TransportEvent::Incoming { upgrade, .. } => break upgrade.await.unwrap().1,
                    _ => {}
                }
            };
            receive(muxer, mib).await;
        });
    });
    let there = listening.recv().unwrap();
    let sample = Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let muxer = transport(sender).dial(there, opts).unwrap().await.unwrap().1;
        send(muxer, mib).await
    });
    receiver.join().unwrap();
    sample
}

async fn send(mut muxer: StreamMuxerBox, mib: usize) -> Sample {
    let mut stream = poll_fn(|cx| Pin::new(&mut muxer).poll_outbound(cx)).await.unwrap();
    let driver = tokio::spawn(drive(muxer));
    transfer(&mut stream, 8).await;
    let (started, cpu) = (Instant::now(), cpu_seconds());
    transfer(&mut stream, mib).await;
    let (elapsed, cpu) = (started.elapsed(), cpu_seconds() - cpu);
    driver.abort();
    let bytes = (mib << 20) as f64;
    Sample { gbit_s: bytes * 8.0 / 1e9 / elapsed.as_secs_f64(), cpu_s_gb: cpu / (bytes / 1e9) }
}

/// Sends and waits until the other side has read everything.
async fn transfer(stream: &mut SubstreamBox, mib: usize) {
    let chunk = vec![7; CHUNK];
    for _ in 0..(mib << 20) / CHUNK {
        stream.write_all(&chunk).await.unwrap();
    }
    stream.flush().await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
}

async fn receive(mut muxer: StreamMuxerBox, mib: usize) {
    let mut stream = poll_fn(|cx| Pin::new(&mut muxer).poll_inbound(cx)).await.unwrap();
    let driver = tokio::spawn(drive(muxer));
    let mut buffer = vec![0; 256 * 1024];
    for expected in [8 << 20, mib << 20] {
        let mut received = 0;
        while received < expected {
            let wanted = buffer.len().min(expected - received);
            received += stream.read(&mut buffer[..wanted]).await.unwrap();
        }
        stream.write_all(&[1]).await.unwrap();
        stream.flush().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    driver.abort();
}

async fn drive(mut muxer: StreamMuxerBox) {
    loop {
        if poll_fn(|cx| Pin::new(&mut muxer).poll(cx)).await.is_err() {
            return;
        }
    }
}

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
fn transport(kind: Kind) -> Boxed<(PeerId, StreamMuxerBox)> {
    let key = Keypair::generate_ed25519();
    match kind {
        Kind::StockTls => over_tcp!(tls::Config::new(&key).unwrap()),
        Kind::StockNoise => over_tcp!(noise::Config::new(&key).unwrap()),
        Kind::OurTls => over_tcp!(Tls::new(&Credentials::new(&key).unwrap())),
        Kind::StockQuic => quic::tokio::Transport::new(quic::Config::new(&key))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed(),
        Kind::OurQuic => own_quic::Transport::new(own_quic::Config::new(&Credentials::new(&key).unwrap()))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed(),
    }
}

fn is_quic(kind: Kind) -> bool {
    matches!(kind, Kind::StockQuic | Kind::OurQuic)
}

/// User and system time of this process; the kernel counts in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
