//! What one packet costs at the device, with and without offload: nanoseconds for reading, writing, checking
//! and cutting. The best of many rounds, so that a busy machine shows what it could do. `cargo run --release -p peerup-tun --example offload`; needs user namespaces, no privileges.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring program that reads the clock and prints"
)]

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("there is no TUN device to measure on this system");
}

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::hint::black_box;
    use std::net::UdpSocket;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::time::{Duration, Instant};
    use std::{env, io};

    use nix::sys::socket::{setsockopt, sockopt};
    use peerup_packet::gso::{self, VirtioNetHeader};
    use peerup_tun::{Device, MAX_FRAME_LEN, TunDevice, TunOptions, VNET_HEADER_LEN};

    const INSIDE: &str = "PEERUP_EXAMPLE_INSIDE_NAMESPACE";
    const MTU: u16 = 1400;
    const PAYLOAD: usize = 1300;
    /// Datagrams in one super-packet.
    const TRAIN: usize = 40;
    /// Frames between two looks at the clock; the device's queue holds them all.
    const BATCH: usize = 200;
    const ROUNDS: usize = 100;

    pub fn main() {
        if env::var_os(INSIDE).is_none() {
            let program = env::current_exe().unwrap();
            let error = Command::new("unshare")
                .args(["--user", "--map-root-user", "--net", "--"])
                .arg(program)
                .env(INSIDE, "1")
                .exec();
            panic!("unshare(1): {error}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            device(TunOptions::plain(MTU)).await;
            device(TunOptions::with_offload(MTU)).await;
        });
        software();
    }

    async fn device(options: TunOptions) {
        let device = TunDevice::create_with("peerup0", options).unwrap();
        for command in ["ip link set peerup0 up", "ip addr add 10.64.0.1/24 dev peerup0"] {
            assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
        }
        let kind = if device.has_vnet_header() { "offload" } else { "plain" };
        let single = read(&device, 1).await;
        report(&format!("read, {kind}, {PAYLOAD} bytes"), single.1, 1);
        report(&format!("write, {kind}, {PAYLOAD} bytes"), write(&device, &single.0).await, 1);
        if device.offload().is_some_and(|offload| offload.uso) {
            let train = read(&device, TRAIN).await;
            report(&format!("read, {kind}, {TRAIN} x {PAYLOAD} bytes"), train.1, TRAIN);
            report(
                &format!("write, {kind}, {TRAIN} x {PAYLOAD} bytes"),
                write(&device, &train.0).await,
                TRAIN,
            );
        }
    }

    /// One of the frames read, and the time for each.
    async fn read(device: &TunDevice, datagrams: usize) -> (Vec<u8>, Duration) {
        let socket = UdpSocket::bind("10.64.0.1:0").unwrap();
        socket.connect("10.64.0.2:7000").unwrap();
        if datagrams > 1 {
            setsockopt(&socket, sockopt::UdpGsoSegment, &(PAYLOAD as i32)).unwrap();
        }
        // As many as the queue holds must also fit the socket.
        setsockopt(&socket, sockopt::SndBuf, &(32 << 20)).unwrap();
        let payload = vec![7; PAYLOAD * datagrams];
        let (mut buffer, mut frame) = (vec![0; MAX_FRAME_LEN], Vec::new());
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            while device.try_recv(&mut buffer).is_ok() {}
            let sent = (0..BATCH).take_while(|_| socket.send(&payload).is_ok()).count();
            // Tokio takes one look at the device before it believes that there is something to read.
            device.recv(&mut buffer).await.unwrap();
            let start = Instant::now();
            let lengths = (1..sent).map_while(|_| device.try_recv(&mut buffer).ok());
            let (frames, length) = lengths.fold((0, 0), |(frames, _), length| (frames + 1, length));
            best = best.min(start.elapsed() / frames);
            frame = buffer[..length].to_vec();
        }
        (frame, best)
    }

    /// Turns a frame round and hands it to the kernel, up to and into a socket that takes it whole.
    async fn write(device: &TunDevice, frame: &[u8]) -> Duration {
        let socket = UdpSocket::bind("10.64.0.1:7000").unwrap();
        socket.set_nonblocking(true).unwrap();
        setsockopt(&socket, sockopt::UdpGroSegment, &true).unwrap();
        setsockopt(&socket, sockopt::RcvBuf, &(32 << 20)).unwrap();
        let mut frame = frame.to_vec();
        let ip_at = if device.has_vnet_header() { VNET_HEADER_LEN } else { 0 };
        // Sums commute, so exchanged addresses leave checksums right.
        let (source, destination) = frame[ip_at + 12..ip_at + 20].split_at_mut(4);
        source.swap_with_slice(destination);
        device.send(&frame).await.unwrap();
        let mut buffer = vec![0; MAX_FRAME_LEN];
        let (mut best, mut delivered) = (Duration::MAX, 0);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for _ in 0..BATCH {
                device.try_send(&frame).unwrap();
            }
            best = best.min(start.elapsed() / BATCH as u32);
            delivered += drain(&socket, &mut buffer);
        }
        let share = delivered as f64 / (ROUNDS * BATCH) as f64;
        assert!(share > 0.05, "the packets are wanted: {share}");
        best
    }

    fn drain(socket: &UdpSocket, buffer: &mut [u8]) -> usize {
        let received = std::iter::from_fn(|| match socket.recv(buffer) {
            Ok(_) => Some(()),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                None
            }
        });
        received.count()
    }

    /// What needs no kernel: a TCP super-packet of 64 KiB.
    fn software() {
        let (header, packet) = super_packet();
        let mtu = usize::from(MTU);
        let segments = gso::validate(header, &packet, mtu).unwrap().segments();
        report(
            "validate, 64 KiB of TCP",
            time(|| {
                let _ = black_box(gso::validate(header, black_box(&packet), mtu));
            }),
            1,
        );
        let view = gso::validate(header, &packet, mtu).unwrap();
        let mut scratch = Vec::new();
        let split = time(|| {
            view.split(mtu, &mut scratch, |segment| {
                black_box(segment);
            })
            .unwrap();
        });
        report(&format!("split into {segments} segments of TCP"), split, segments);
        let mut whole = packet[..mtu].to_vec();
        let header = VirtioNetHeader { gso_type: 0, gso_size: 0, ..header };
        let complete = time(|| gso::complete_checksum(header, black_box(&mut whole)).unwrap());
        report(&format!("complete the checksum of {MTU} bytes"), complete, 1);
    }

    fn super_packet() -> (VirtioNetHeader, Vec<u8>) {
        let mut packet = vec![0; usize::from(u16::MAX)];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&u16::MAX.to_be_bytes());
        packet[9] = 6;
        packet[12..20].copy_from_slice(&[10, 64, 0, 1, 10, 64, 0, 2]);
        packet[32] = 0x50;
        let header = VirtioNetHeader {
            flags: 1,
            gso_type: 1,
            hdr_len: 40,
            gso_size: MTU - 40,
            csum_start: 20,
            csum_offset: 16,
        };
        (header, packet)
    }

    fn time(mut work: impl FnMut()) -> Duration {
        const TIMES: u32 = 20;
        let round = |_| {
            let start = Instant::now();
            (0..TIMES).for_each(|_| work());
            start.elapsed() / TIMES
        };
        (0..10 * ROUNDS).map(round).min().unwrap()
    }

    fn report(what: &str, each: Duration, packets: usize) {
        let per_packet = each.as_nanos() as f64 / packets as f64;
        println!("{what:40} {:>7} ns a frame {per_packet:>7.0} ns a packet", each.as_nanos());
    }
}
