//! Offload against a real kernel: what it leaves to the device, and whether the other end understands it.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod namespace;
mod wire;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use namespace::{inside, run};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use peerup_tun::{Device, Offload, TunDevice, TunOptions};
use wire::{Counts, MTU, between};

const TRANSFER: usize = 256 << 20;
const SEGMENT: usize = 1200;
const TRAIN: usize = 12;
const TRAINS: usize = 200;

#[test]
fn offload_is_granted_and_shown_and_not_there_unasked() {
    inside("offload_is_granted_and_shown_and_not_there_unasked", || {
        in_runtime(async {
            let device = TunDevice::create_with("peerup0", TunOptions::with_offload(1380)).unwrap();
            assert!(matches!(device.offload(), Some(Offload { .. })) && device.has_vnet_header());
            assert_eq!(device.mtu(), 1380);
            assert!(run("ip -d link show peerup0").contains("tun type tun pi off vnet_hdr on persist off"));
            let plain = TunDevice::create_with("peerup1", TunOptions::plain(1380)).unwrap();
            assert!(plain.offload().is_none() && !plain.has_vnet_header());
        });
    });
}

#[test]
fn a_header_that_contradicts_its_packet_is_refused_and_harms_nothing() {
    inside("a_header_that_contradicts_its_packet_is_refused_and_harms_nothing", || {
        in_runtime(async {
            let device = TunDevice::create_with("peerup0", TunOptions::with_offload(1400)).unwrap();
            run("ip link set peerup0 up");
            run("ip addr add 10.64.0.1/24 dev peerup0");
            let mut packet = vec![0; 60];
            packet[0] = 0x45;
            for header in [[0, 2, 0, 0, 9, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0]] {
                let error = device.send(&[&header[..], &packet].concat()).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            }
            device.send_packet(&packet).await.unwrap();
        });
    });
}

#[test]
fn a_tcp_stream_passes_in_super_packets() {
    inside("a_tcp_stream_passes_in_super_packets", || {
        let counts = transfer("10.64.0.2", TunOptions::with_offload(MTU), TunOptions::with_offload(MTU));
        assert!(counts.bytes_per_read() >= 8 << 10, "{} bytes per read", counts.bytes_per_read());
    });
}

#[test]
fn a_tcp_stream_over_ipv6_passes_in_super_packets() {
    inside("a_tcp_stream_over_ipv6_passes_in_super_packets", || {
        let counts = transfer("fd00::2", TunOptions::with_offload(MTU), TunOptions::with_offload(MTU));
        assert!(counts.bytes_per_read() >= 8 << 10, "{} bytes per read", counts.bytes_per_read());
    });
}

#[test]
fn a_tcp_stream_is_split_for_a_plain_device() {
    inside("a_tcp_stream_is_split_for_a_plain_device", || {
        let counts = transfer("10.64.0.2", TunOptions::with_offload(MTU), TunOptions::plain(MTU));
        assert!(counts.bytes_per_read() >= 8 << 10, "{} bytes per read", counts.bytes_per_read());
    });
}

#[test]
fn a_tcp_stream_over_ipv6_is_split_for_a_plain_device() {
    inside("a_tcp_stream_over_ipv6_is_split_for_a_plain_device", || {
        let counts = transfer("fd00::2", TunOptions::with_offload(MTU), TunOptions::plain(MTU));
        assert!(counts.bytes_per_read() >= 8 << 10, "{} bytes per read", counts.bytes_per_read());
    });
}

#[test]
fn a_tcp_stream_from_a_plain_device_enters_one_with_offload() {
    inside("a_tcp_stream_from_a_plain_device_enters_one_with_offload", || {
        transfer("10.64.0.2", TunOptions::plain(MTU), TunOptions::with_offload(MTU));
    });
}

#[test]
fn trains_of_datagrams_pass_whole() {
    inside("trains_of_datagrams_pass_whole", || {
        datagrams("10.64.0.2", TunOptions::with_offload(MTU));
    });
}

#[test]
fn trains_of_datagrams_are_split_for_a_plain_device() {
    inside("trains_of_datagrams_are_split_for_a_plain_device", || {
        datagrams("fd00::2", TunOptions::plain(MTU));
    });
}

/// Sends `TRANSFER` bytes to `far`, where each is compared.
fn transfer(far: &str, near_options: TunOptions, far_options: TunOptions) -> std::sync::Arc<Counts> {
    let address = SocketAddr::new(far.parse().unwrap(), 7000);
    let (listening, is_listening) = sync_channel(1);
    let receive = move || receive_stream(address, &listening);
    let (counts, _) = between(near_options, far_options, receive, || send_stream(address, &is_listening));
    counts
}

fn send_stream(address: SocketAddr, is_listening: &Receiver<()>) {
    is_listening.recv().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let block = pattern();
    let mut left = TRANSFER;
    while left > 0 {
        let part = &block[..left.min(block.len())];
        stream.write_all(part).unwrap();
        left -= part.len();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    // The other end answers when it has seen the end.
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 1);
}

fn receive_stream(address: SocketAddr, listening: &SyncSender<()>) {
    let listener = TcpListener::bind(address).unwrap();
    listening.send(()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let (expected, mut got) = (pattern(), vec![0; 1 << 20]);
    let mut total = 0;
    loop {
        let length = stream.read(&mut got).unwrap();
        if length == 0 {
            break;
        }
        compare(&got[..length], &expected, total);
        total += length;
    }
    assert_eq!(total, TRANSFER);
    stream.write_all(&[1]).unwrap();
}

fn compare(mut got: &[u8], expected: &[u8], total: usize) {
    let mut at = total % expected.len();
    while !got.is_empty() {
        let length = got.len().min(expected.len() - at);
        assert!(got[..length] == expected[at..at + length], "byte {total} and what follows");
        (got, at) = (&got[length..], 0);
    }
}

/// Bytes without a period shorter than the block, whose length is prime so that it never falls into step with
/// segments or buffers.
fn pattern() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..1_000_003).map(|_| next()).collect()
}

/// Sends trains of datagrams with one system call each; the other end answers each train.
fn datagrams(far: &str, far_options: TunOptions) {
    let address = SocketAddr::new(far.parse().unwrap(), 7000);
    let (listening, is_listening) = sync_channel(1);
    let receive = move || receive_trains(address, &listening);
    let (counts, uso) = between(TunOptions::with_offload(MTU), far_options, receive, || {
        is_listening.recv().unwrap();
        send_trains(address);
    });
    if uso {
        assert_eq!(counts.datagram_trains.load(Relaxed), TRAINS as u64);
    }
}

fn send_trains(address: SocketAddr) {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = with_timeout(UdpSocket::bind(any).unwrap());
    socket.connect(address).unwrap();
    setsockopt(&socket, UdpGsoSegment, &(SEGMENT as i32)).unwrap();
    for train in 0..TRAINS {
        let bytes = (0..TRAIN).flat_map(|at| [(train + at) as u8; SEGMENT]).collect::<Vec<_>>();
        // The last datagram is shorter.
        socket.send(&bytes[..TRAIN * SEGMENT - 1]).unwrap();
        socket.recv(&mut [0; 1]).unwrap();
    }
}

fn receive_trains(address: SocketAddr, listening: &SyncSender<()>) {
    let socket = with_timeout(UdpSocket::bind(address).unwrap());
    listening.send(()).unwrap();
    let mut buffer = [0; 65_535];
    for train in 0..TRAINS {
        for at in 0..TRAIN {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let last = at == TRAIN - 1;
            assert_eq!(length, if last { SEGMENT - 1 } else { SEGMENT });
            assert!(buffer[..length].iter().all(|byte| *byte == (train + at) as u8));
            if last {
                socket.send_to(&[1], from).unwrap();
            }
        }
    }
}

fn with_timeout(socket: UdpSocket) -> UdpSocket {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn in_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}
