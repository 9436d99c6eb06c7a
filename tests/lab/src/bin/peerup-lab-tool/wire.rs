//! The impaired wire: two TAP devices, and in each direction a thread that reads and one that delivers.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use peerup_lab::impair::{Counts, Line};
use peerup_lab::{COUNTS_EVERY, Impairment, clock, counts_line, say};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// A super-packet with its virtio and Ethernet headers; an ordinary frame needs a fraction of it.
const FRAME_LIMIT: usize = (64 << 10) + 64;

pub fn run(words: &[String]) -> Result<()> {
    let [left_net, left_name, right_net, right_name, faults @ ..] = words else {
        bail!("wire NETNS TAP NETNS TAP IMPAIRMENT…");
    };
    let faults = Impairment::from_words(faults)?;
    let left = Arc::new(open(left_net, left_name, faults.super_packets)?);
    let right = Arc::new(open(right_net, right_name, faults.super_packets)?);
    let lanes =
        [0, 1].map(|direction| Arc::new(Lane::new(Line::new(faults.clone(), direction, clock::now()))));
    let there = carry(&left, &right, &lanes[0]);
    let back = carry(&right, &left, &lanes[1]);
    say("ready");
    let mut said = [Counts::default(); 2];
    while !there.is_finished() && !back.is_finished() {
        clock::pause(COUNTS_EVERY);
        let counts = [&lanes[0], &lanes[1]].map(|lane| lane.lock().counts());
        if counts != said {
            said = counts;
            say(&counts_line(counts));
        }
    }
    bail!("a device of the wire is gone")
}

/// Makes the device in another network namespace; the thread that enters it is of no further use.
fn open(net: &str, name: &str, super_packets: bool) -> Result<SyncDevice> {
    let net = File::open(net).with_context(|| format!("opening {net}"))?;
    let name = name.to_owned();
    let opener = std::thread::spawn(move || -> Result<SyncDevice> {
        setns(&net, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
        let device = DeviceBuilder::new().name(&name).layer(Layer::L2).mtu(1500);
        // With offload each frame has its virtio header in front; the other device takes both as they are.
        device.offload(super_packets).build_sync().with_context(|| format!("making TAP device {name}"))
    });
    opener.join().expect("the opener does not panic")
}

fn carry(from: &Arc<SyncDevice>, to: &Arc<SyncDevice>, lane: &Arc<Lane>) -> std::thread::JoinHandle<()> {
    let (from, to, lane, filler) = (from.clone(), to.clone(), lane.clone(), lane.clone());
    std::thread::spawn(move || lane.deliver(&to));
    std::thread::spawn(move || filler.fill(&from))
}

struct Lane {
    line: Mutex<Line>,
    sooner: Condvar,
}

impl Lane {
    fn new(line: Line) -> Self {
        Self { line: Mutex::new(line), sooner: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn fill(&self, from: &SyncDevice) {
        let mut frame = vec![0; FRAME_LIMIT];
        while let Ok(len) = from.recv(&mut frame) {
            let mut line = self.lock();
            let before = line.poll_timeout();
            line.handle_frame(&frame[..len], clock::now());
            if line.poll_timeout() != before {
                self.sooner.notify_one();
            }
        }
    }

    fn deliver(&self, to: &SyncDevice) {
        // The default slack of 50 µs would be a third of a clean wire's round trip.
        let _ = nix::sys::prctl::set_timerslack(1);
        let mut line = self.lock();
        loop {
            while let Some(frame) = line.poll_frame(clock::now()) {
                drop(line);
                // A link that is down refuses frames, as a cable end in nobody's socket does.
                let _ = to.send(&frame);
                line = self.lock();
            }
            line = self.wait(line);
        }
    }

    fn wait<'a>(&self, line: MutexGuard<'a, Line>) -> MutexGuard<'a, Line> {
        let Some(due) = line.poll_timeout() else {
            return self.sooner.wait(line).unwrap_or_else(|poisoned| poisoned.into_inner());
        };
        let left = due.saturating_duration_since(clock::now());
        let woken = self.sooner.wait_timeout(line, left);
        woken.unwrap_or_else(|poisoned| poisoned.into_inner()).0
    }
}
