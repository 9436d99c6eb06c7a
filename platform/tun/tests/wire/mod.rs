//! Two hosts, each a network namespace with a TUN device, and a thread that carries packets between them the way
//! two daemons do: super-packets whole where both devices take them, cut into packets where one does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{io, thread};

use nix::sched::{CloneFlags, unshare};
use peerup_packet::gso::{self, Segmentation, VirtioNetHeader};
use peerup_tun::{Device, MAX_FRAME_LEN, TunDevice, TunOptions, VNET_HEADER_LEN};
use tokio::runtime::{Builder, Handle};

use crate::namespace::run;

/// Of the devices.
pub const MTU: u16 = 1400;
/// What handshakes are clamped to on the way, and what no segment may then exceed.
pub const CLAMPED: u16 = 1280;
/// Frames that one direction carries before the other gets its turn.
const BATCH: usize = 64;

/// What was read from one device.
#[derive(Default)]
pub struct Counts {
    pub reads: AtomicU64,
    pub bytes: AtomicU64,
    /// Packets of several UDP datagrams.
    pub datagram_trains: AtomicU64,
}

impl Counts {
    pub fn bytes_per_read(&self) -> u64 {
        self.bytes.load(Relaxed) / self.reads.load(Relaxed).max(1)
    }
}

/// Runs `near` here, with 10.64.0.1 and fd00::1, and `far` on another host, with 10.64.0.2 and fd00::2. Returns
/// what was read on this side, and whether this side's device has USO.
pub fn between<R: Send + 'static>(
    near_options: TunOptions,
    far_options: TunOptions,
    far: impl FnOnce() -> R + Send + 'static,
    near: impl FnOnce(),
) -> (Arc<Counts>, bool) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let near_device = host(runtime.handle(), near_options, 1);
    let handle = runtime.handle().clone();
    let (up, is_up) = std::sync::mpsc::sync_channel(1);
    let far = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        up.send(host(&handle, far_options, 2)).unwrap();
        far()
    });
    let far_device = is_up.recv().unwrap();
    let uso = near_device.offload().is_some_and(|offload| offload.uso);
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    // Ends with the process, which is here for one test.
    thread::spawn(move || {
        let back = Counts::default();
        runtime.block_on(async {
            tokio::join!(carry(&near_device, &far_device, &counted), carry(&far_device, &near_device, &back))
        })
    });
    near();
    far.join().unwrap();
    (counts, uso)
}

fn host(runtime: &Handle, options: TunOptions, number: u8) -> TunDevice {
    let _inside = runtime.enter();
    let device = TunDevice::create_with("peerup0", options).unwrap();
    run("ip link set peerup0 up");
    run(&format!("ip addr add 10.64.0.{number}/24 dev peerup0"));
    run(&format!("ip addr add fd00::{number}/64 dev peerup0 nodad"));
    // The kernel makes the address its own a moment later, also without duplicate address detection.
    run(&format!(
        "for i in $(seq 500); do ip -6 route show table local | grep -q fd00::{number} && exit; sleep 0.01; done; exit 1"
    ));
    device
}

async fn carry(from: &TunDevice, to: &TunDevice, counts: &Counts) {
    let mut buffer = vec![0; MAX_FRAME_LEN];
    let mut scratch = Vec::new();
    loop {
        let mut read = from.recv(&mut buffer).await;
        for _ in 0..BATCH {
            let Ok(length) = read else { break };
            counts.reads.fetch_add(1, Relaxed);
            counts.bytes.fetch_add(length as u64, Relaxed);
            pass_on(from, to, &mut buffer[..length], &mut scratch, counts).await.unwrap();
            read = from.try_recv(&mut buffer);
        }
        if let Err(error) = read {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
        tokio::task::yield_now().await;
    }
}

async fn pass_on(
    from: &TunDevice,
    to: &TunDevice,
    frame: &mut [u8],
    scratch: &mut Vec<u8>,
    counts: &Counts,
) -> io::Result<()> {
    if !from.has_vnet_header() {
        gso::clamp_mss(VirtioNetHeader::default(), frame, CLAMPED);
        return to.send_packet(frame).await;
    }
    let (head, packet) = frame.split_first_chunk_mut::<VNET_HEADER_LEN>().unwrap();
    let header = VirtioNetHeader::parse(head);
    gso::clamp_mss(header, packet, CLAMPED);
    let view = gso::validate(header, packet, CLAMPED.into()).expect("what a kernel makes is accepted");
    if view.segmentation() == Segmentation::Udp {
        counts.datagram_trains.fetch_add(1, Relaxed);
    }
    if to.has_vnet_header() {
        *head = view.header().emit();
        return to.send(frame).await;
    }
    let mut segments = view.segments_within(CLAMPED.into()).expect("what is accepted fits");
    while let Some(packet) = segments.next(scratch) {
        to.send_packet(packet).await?;
    }
    Ok(())
}
