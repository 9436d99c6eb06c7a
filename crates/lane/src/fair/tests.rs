#![allow(clippy::disallowed_methods, reason = "a test needs some first instant")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SEED: u64 = 7;
const SUPER: usize = 64 * 1024;
const MTU: usize = 1380;
const JUMBO: usize = 9000;
const MS: Duration = Duration::from_millis(1);

fn queue() -> FairQueue {
    FairQueue::new(Limits::default(), SEED)
}

/// Flows that do not share a bucket.
fn flows(count: usize) -> Vec<FlowKey> {
    let mut buckets = BTreeMap::new();
    let keys = (0..).map(FlowKey::new);
    for key in keys.take_while(|key| key.get() < 100 * BUCKETS as u64) {
        if buckets.len() < count {
            buckets.entry(key.seeded(SEED) % BUCKETS as u64).or_insert(key);
        }
    }
    let flows: Vec<_> = buckets.into_values().collect();
    assert_eq!(flows.len(), count);
    flows
}

/// Ten bytes of virtio header and an IPv4 header.
fn super_packet(len: usize, ecn: u8) -> Vec<u8> {
    let mut body = vec![0; len];
    (body[10], body[11]) = (0x45, ecn);
    body
}

fn plain(len: usize, ecn: u8) -> Vec<u8> {
    let mut body = vec![0; len.max(20)];
    (body[0], body[1]) = (0x45, ecn);
    body
}

fn push(queue: &mut FairQueue, flow: FlowKey, body: Vec<u8>, now: Instant) -> Vec<Queued> {
    let dropped = std::iter::from_fn(|| queue.make_room(body.len())).collect();
    queue.push(flow, Form::Plain, body, now);
    dropped
}

/// Bytes that each flow gets of `total`, while none ever runs dry: flow `n` sends items of `lens[n]` bytes, whose first
/// bytes say whose they are.
fn shares(lens: &[usize], total: usize) -> Vec<usize> {
    let (mut queue, now) = (queue(), Instant::now());
    let flows = flows(lens.len());
    let body = |n: usize| {
        let mut body = vec![0; lens[n]];
        body[1] = n as u8;
        body
    };
    let mut shares = vec![0; lens.len()];
    for (n, flow) in flows.iter().enumerate() {
        (0..2).for_each(|_| queue.push(*flow, Form::Plain, body(n), now));
    }
    while shares.iter().sum::<usize>() < total {
        let (queued, fate) = queue.pop(now).unwrap();
        assert_eq!(fate, Fate::Send);
        let n = usize::from(queued.body[1]);
        shares[n] += queued.body.len();
        queue.push(flows[n], Form::Plain, body(n), now);
    }
    shares
}

fn assert_even(shares: &[usize], slack: usize) {
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(most - least <= slack, "{shares:?}");
}

#[test]
fn a_packet_of_a_silent_flow_overtakes_what_a_transfer_has_queued() {
    let (mut queue, now) = (queue(), Instant::now());
    let flows = flows(2);
    for _ in 0..10 {
        queue.push(flows[0], Form::Super, super_packet(SUPER, 0), now);
    }
    for _ in 0..5 {
        assert_eq!(queue.pop(now).unwrap().0.body.len(), SUPER);
        queue.push(flows[1], Form::Plain, plain(84, 0), now);
        assert_eq!(queue.pop(now).unwrap().0.body.len(), 84);
    }
}

#[test]
fn flows_get_equal_bytes_however_long_their_items_are() {
    assert_even(&shares(&[SUPER, SUPER], 4 << 20), SUPER + 1514);
    assert_even(&shares(&[SUPER, MTU], 4 << 20), SUPER + 1514);
    assert_even(&shares(&[SUPER, MTU, 84, 20_000], 8 << 20), SUPER + 1514);
}

#[test]
fn one_transfer_beside_ten_gets_an_eleventh() {
    assert_even(&shares(&[SUPER; 11], 22 << 20), SUPER + 1514);
    let mut lens = [SUPER; 11];
    lens[0] = MTU;
    assert_even(&shares(&lens, 22 << 20), SUPER + 1514);
}

#[test]
fn a_burst_of_small_packets_waits_for_one_super_packet_of_each_transfer_at_most() {
    let (mut queue, now) = (queue(), Instant::now());
    let flows = flows(6);
    for flow in &flows[..5] {
        (0..3).for_each(|_| queue.push(*flow, Form::Super, super_packet(SUPER, 0), now));
    }
    (0..10).for_each(|_| queue.push(flows[5], Form::Plain, plain(MTU, 0), now));
    let order: Vec<_> = std::iter::from_fn(|| queue.pop(now)).map(|(queued, _)| queued.body.len()).collect();
    let last_small = order.iter().rposition(|len| *len == MTU).unwrap();
    assert_eq!(order[..last_small].iter().filter(|len| **len == SUPER).count(), 5);
}

#[test]
fn a_flow_that_pauses_does_not_get_rid_of_what_it_owes() {
    let (mut queue, now) = (queue(), Instant::now());
    let flows = flows(2);
    let mut shares = [0, 0];
    (0..2).for_each(|_| queue.push(flows[0], Form::Plain, plain(MTU, 0), now));
    queue.push(flows[1], Form::Super, super_packet(SUPER, 0), now);
    while shares[0] < 4 << 20 {
        let len = queue.pop(now).unwrap().0.body.len();
        let which = usize::from(len == SUPER);
        shares[which] += len;
        // The transfer's queue is empty each time; the other one's never is.
        queue.push(flows[which], Form::Plain, plain(len, 0), now);
    }
    assert_even(&shares, 2 * SUPER);
}

#[test]
fn flows_that_share_a_bucket_share_its_turns_and_nothing_else() {
    let (mut queue, now) = (queue(), Instant::now());
    let apart = flows(2);
    let same = (1000..)
        .map(FlowKey::new)
        .find(|key| key.seeded(SEED) % BUCKETS as u64 == apart[0].seeded(SEED) % BUCKETS as u64);
    for flow in [apart[0], apart[1], same.unwrap()] {
        queue.push(flow, Form::Plain, plain(100, 0), now);
    }
    assert_eq!(queue.flows.len(), 2);
    assert_eq!(std::iter::from_fn(|| queue.pop(now)).count(), 3);
}

#[test]
fn a_full_queue_takes_from_the_flow_that_has_most_and_never_from_a_newcomer() {
    let (mut queue, now) = (queue(), Instant::now());
    let flows = flows(12);
    let mut dropped = 0;
    for round in 0..2000usize {
        dropped += push(&mut queue, flows[0], plain(MTU, 0), now).len();
        if round % 200 == 0 {
            let victims = push(&mut queue, flows[1 + round / 200], plain(84, 0), now);
            assert!(victims.iter().all(|victim| victim.body.len() == MTU));
            dropped += victims.len();
        }
        assert!(queue.bytes() <= Limits::default().bytes);
    }
    assert_eq!(dropped + queue.len(), 2010);
    let small = std::iter::from_fn(|| queue.pop(now)).filter(|(queued, _)| queued.body.len() == 84);
    assert_eq!(small.count(), 10);
}

#[test]
fn what_gives_way_is_the_oldest_of_its_flow() {
    let (mut queue, now) = (queue(), Instant::now());
    let flow = FlowKey::default();
    let numbered = |n: u32| [&n.to_be_bytes()[..], &[0; JUMBO]].concat();
    let dropped: Vec<_> = (0..4000).flat_map(|n| push(&mut queue, flow, numbered(n), now)).collect();
    let number = |queued: &Queued| u32::from_be_bytes(*queued.body.first_chunk().unwrap());
    assert!(dropped.iter().map(number).eq(0..dropped.len() as u32));
    assert!(!dropped.is_empty());
}

#[test]
fn tiny_packets_are_bounded_by_their_number() {
    let (mut queue, now) = (queue(), Instant::now());
    for n in 0..10_000 {
        push(&mut queue, FlowKey::new(n), vec![0; 1], now);
    }
    assert_eq!(queue.len(), Limits::default().packets);
    assert!(queue.flows.len() <= BUCKETS);
    assert!(queue.packets.len() <= Limits::default().packets);
}

#[test]
fn a_packet_longer_than_the_bound_passes_alone() {
    let mut queue = FairQueue::new(Limits { bytes: 1000, ..Limits::default() }, SEED);
    let now = Instant::now();
    assert_eq!(push(&mut queue, FlowKey::default(), plain(SUPER, 0), now).len(), 0);
    assert_eq!(push(&mut queue, FlowKey::default(), plain(SUPER, 0), now).len(), 1);
    assert_eq!(queue.len(), 1);
}

/// A flow that has `backlog` packets waiting all the time, each for `wait` before it leaves, for `rounds` milliseconds.
fn standing(len: usize, ecn: u8, backlog: u32, wait: Duration, rounds: u32) -> Vec<Fate> {
    let (mut queue, mut now) = (queue(), Instant::now());
    for _ in 0..backlog {
        queue.push(FlowKey::default(), Form::Plain, plain(len, ecn), now);
    }
    (0..rounds)
        .map(|_| {
            now += MS;
            queue.packets.iter_mut().for_each(|queued| queued.at = now - wait);
            queue.push(FlowKey::default(), Form::Plain, plain(len, ecn), now);
            queue.pop(now).unwrap().1
        })
        .collect()
}

fn count(fates: &[Fate], fate: Fate) -> usize {
    fates.iter().filter(|seen| **seen == fate).count()
}

#[test]
fn a_queue_that_stays_is_shortened_after_an_interval_and_the_harder_the_longer_it_stays() {
    let fates = standing(MTU, 0, 20, MS * 10, 2000);
    assert_eq!(count(&fates[..100], Fate::Congestion), 0);
    let (first, second) = (count(&fates[..1000], Fate::Congestion), count(&fates[1000..], Fate::Congestion));
    assert!(first > 10 && second > 2 * first, "{first} {second}");
    assert_eq!(count(&fates, Fate::SendMarked), 0);
}

#[test]
fn a_flow_that_understands_marks_gets_them_and_loses_nothing() {
    for ecn in [1, 2] {
        let (marked, lost) = (standing(MTU, ecn, 20, MS * 10, 2000), standing(MTU, 0, 20, MS * 10, 2000));
        assert_eq!(count(&marked, Fate::Congestion), 0);
        assert_eq!(count(&marked, Fate::SendMarked), count(&lost, Fate::Congestion));
    }
}

#[test]
fn a_mark_is_in_the_packet_also_behind_a_virtio_header() {
    for form in [Form::Plain, Form::Super] {
        let (mut queue, mut now) = (queue(), Instant::now());
        let body = || if form == Form::Plain { plain(MTU, 2) } else { super_packet(MTU, 2) };
        (0..400).for_each(|_| queue.push(FlowKey::default(), form, body(), now));
        // Not old enough for anything but a mark.
        queue.limits.age = Duration::from_secs(60);
        let marked = std::iter::from_fn(|| {
            now += MS;
            queue.pop(now)
        });
        let marked = marked.filter(|(_, fate)| *fate == Fate::SendMarked).map(|(queued, _)| queued.body);
        let marked: Vec<_> = marked.collect();
        assert!(!marked.is_empty());
        let at = if form == Form::Plain { 1 } else { 11 };
        assert!(marked.iter().all(|body| body[at] == 3));
    }
}

#[test]
fn below_the_target_nothing_happens() {
    assert_eq!(count(&standing(MTU, 0, 20, MS * 4, 2000), Fate::Send), 2000);
}

#[test]
fn one_packet_behind_another_is_no_queue_however_slow_the_path_and_however_long_the_packet() {
    for len in [84, MTU, SUPER - 1] {
        assert_eq!(count(&standing(len, 0, 1, MS * 300, 2000), Fate::Send), 2000);
    }
    assert!(count(&standing(20_000, 0, 3, MS * 300, 2000), Fate::Congestion) > 0);
}

#[test]
fn what_is_too_old_is_dropped_from_a_long_queue_and_not_from_a_short_one() {
    let (mut queue, now) = (queue(), Instant::now());
    let flows = flows(2);
    (0..400).for_each(|_| queue.push(flows[0], Form::Plain, plain(MTU, 0), now));
    queue.push(flows[1], Form::Plain, plain(84, 0), now);
    let later = now + Limits::default().age * 2;
    let all: Vec<_> = std::iter::from_fn(|| queue.pop(later)).collect();
    let old = all.iter().filter(|(_, fate)| *fate == Fate::TooOld);
    assert!(old.clone().all(|(queued, _)| queued.body.len() == MTU), "a flow of one packet is not the cause");
    let old = old.count();
    assert!((250..400 - SHORT / MTU / 2).contains(&old), "{old}");
}

#[test]
fn what_waited_for_a_path_is_not_judged_by_it() {
    let (mut queue, now) = (queue(), Instant::now());
    (0..200).for_each(|_| queue.push(FlowKey::default(), Form::Plain, plain(MTU, 0), now));
    let later = now + MS * 2000;
    queue.restart(later);
    let fates: Vec<_> = std::iter::from_fn(|| queue.pop(later)).map(|(_, fate)| fate).collect();
    assert_eq!((fates.len(), count(&fates, Fate::Send)), (200, 200));
}

#[test]
fn memory_is_used_again() {
    let (mut queue, mut now) = (queue(), Instant::now());
    for n in 0..10_000 {
        now += MS;
        for k in 0..5 {
            queue.push(FlowKey::new(n * 5 + k), Form::Plain, plain(MTU, 0), now);
        }
        while queue.pop(now).is_some() {}
    }
    assert!(queue.flows.len() <= 5);
    assert!(queue.vacant.len() <= 5);
}

/// A sender as TCP is one, Reno's rules and nothing else, behind a bottleneck of `RATE` with a round trip of `RTT`.
struct Sender {
    window: f64,
    threshold: f64,
    in_flight: usize,
    /// When what left the queue is acknowledged, or its loss or mark is noticed.
    returns: VecDeque<(Instant, usize, bool)>,
    /// One reduction each round trip.
    reduced: Instant,
}

const RATE: usize = 2500;
const RTT: Duration = Duration::from_millis(20);
const SEGMENT: usize = 2 * MTU;

impl Sender {
    fn hear(&mut self, now: Instant) {
        while self.returns.front().is_some_and(|(at, _, _)| *at <= now)
            && let Some((_, len, signal)) = self.returns.pop_front()
        {
            self.in_flight -= len;
            if signal && now >= self.reduced {
                self.reduced = now + RTT;
                self.window = (self.window / 2.0).max(2.0 * SEGMENT as f64);
                self.threshold = self.window;
            } else if self.window < self.threshold {
                self.window += len as f64;
            } else {
                self.window += SEGMENT as f64 * len as f64 / self.window;
            }
        }
    }
}

/// Ten seconds of one transfer: mean wait in the queue once it has settled, and how much of the bottleneck is used.
fn transfer(ecn: u8) -> (Duration, f64) {
    let (mut queue, start) = (queue(), Instant::now());
    let mut sender = Sender {
        window: 10.0 * MTU as f64,
        threshold: 1e9,
        in_flight: 0,
        returns: VecDeque::new(),
        reduced: start,
    };
    let (mut credit, mut waits, mut sent) = (0usize, Vec::new(), 0);
    for ms in 0..12_000u32 {
        let now = start + MS * ms;
        sender.hear(now);
        while (sender.in_flight + SEGMENT) as f64 <= sender.window {
            sender.in_flight += SEGMENT;
            for victim in push(&mut queue, FlowKey::default(), plain(SEGMENT, ecn), now) {
                sender.returns.push_back((now + RTT, victim.body.len(), true));
            }
        }
        credit = if queue.is_empty() { 0 } else { credit + RATE };
        while credit >= SEGMENT
            && let Some((queued, fate)) = queue.pop(now)
        {
            let len = queued.body.len();
            sender.returns.push_back((now + RTT, len, fate != Fate::Send));
            if matches!(fate, Fate::Send | Fate::SendMarked) {
                credit -= len;
                if ms >= 2000 {
                    waits.push(now - queued.at);
                    sent += len;
                }
            }
        }
    }
    let mean = waits.iter().sum::<Duration>() / waits.len() as u32;
    (mean, sent as f64 / (10_000 * RATE) as f64)
}

#[test]
fn a_transfer_fills_a_slow_path_and_not_the_queue_before_it() {
    for ecn in [0, 2] {
        let (mean, used) = transfer(ecn);
        assert!(mean < MS * 12, "{mean:?}");
        assert!(used > 0.85, "{used}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push { flow: u64, len: usize, ecn: u8 },
    Pop { count: u8 },
    PopOldest,
    Restart,
    Wait { ms: u32 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![8..200usize, 1000..1500usize, 20_000..65_000usize];
    let step = prop_oneof![
        12 => (0..6u64, len, 0..4u8).prop_map(|(flow, len, ecn)| Step::Push { flow, len, ecn }),
        6 => (1..20u8).prop_map(|count| Step::Pop { count }),
        1 => Just(Step::PopOldest),
        1 => Just(Step::Restart),
        3 => (0..80u32).prop_map(|ms| Step::Wait { ms }),
    ];
    proptest::collection::vec(step, 1..400)
}

/// Flow and number of a packet, which lie behind where an IPv4 header has its marks and its checksum.
fn numbered(flow: u64, number: u32, len: usize, ecn: u8) -> Vec<u8> {
    let mut body = plain(len.max(32), ecn);
    body[20] = flow as u8;
    body[24..28].copy_from_slice(&number.to_be_bytes());
    body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_uncounted_or_reordered_in_its_flow_and_the_bounds_hold(steps in steps()) {
        let limits = Limits { bytes: 200_000, packets: 100, ..Limits::default() };
        let (mut queue, mut now) = (FairQueue::new(limits, SEED), Instant::now());
        let (mut pushed, mut left) = ([0u32; 6], Vec::new());
        for step in steps {
            match step {
                Step::Push { flow, len, ecn } => {
                    let number = &mut pushed[flow as usize];
                    left.extend(push(&mut queue, FlowKey::new(flow), numbered(flow, *number, len, ecn), now));
                    *number += 1;
                }
                Step::Pop { count } => {
                    for (queued, fate) in (0..count).map_while(|_| queue.pop(now)) {
                        prop_assert!(fate != Fate::SendMarked || queued.body[1] == 3);
                        left.push(queued);
                    }
                }
                Step::PopOldest => left.extend(queue.pop_oldest()),
                Step::Restart => queue.restart(now),
                Step::Wait { ms } => now += MS * ms,
            }
            prop_assert!(queue.bytes() <= limits.bytes && queue.len() <= limits.packets);
            prop_assert_eq!(left.len() + queue.len(), pushed.iter().sum::<u32>() as usize);
        }
        left.extend(std::iter::from_fn(|| queue.pop(now)).map(|(queued, _)| queued));
        prop_assert_eq!((queue.len(), queue.bytes(), queue.oldest_at()), (0, 0, None));
        prop_assert!(queue.pop(now).is_none() && queue.new.is_empty() && queue.old.is_empty());
        for flow in 0..6u8 {
            let of_flow = left.iter().filter(|queued| queued.body[20] == flow);
            let numbers: Vec<_> =
                of_flow.map(|queued| u32::from_be_bytes(*queued.body[24..].first_chunk().unwrap())).collect();
            prop_assert!(numbers.iter().copied().eq(0..pushed[usize::from(flow)]), "{flow}: {numbers:?}");
        }
    }
}
