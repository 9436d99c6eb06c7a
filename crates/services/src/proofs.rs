//! When a path that carries sessions has to prove that it leads anywhere.
//!
//! The path machine probes the path that packets take. Sessions may be on another: one that was the best when they
//! began, one that is only kept for them, or a TCP connection beside the QUIC one. Nobody would notice its death
//! before TCP does, minutes later, and until then every new session would be sent there too. So a path on which
//! sessions have heard nothing for a while has to answer, several times before it counts as dead: a busy path may
//! take longer than one answer may.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use peerup_types::PathId;

/// A newcomer is asked sooner: its first session waits for it.
const FIRST: Duration = Duration::from_secs(2);
/// Silence after which a path is asked.
const SILENCE: Duration = Duration::from_secs(5);
/// After a question without an answer.
const AGAIN: Duration = Duration::from_secs(1);
/// Unanswered questions in a row after which a path is given up.
const MISSES: u32 = 3;

/// A path with sessions, and how often they have heard something on it so far.
#[derive(Debug, Clone, Copy)]
pub struct InUse {
    pub path: PathId,
    pub heard: u64,
}

#[derive(Debug, Default)]
pub struct Proofs {
    by_path: BTreeMap<PathId, Proof>,
}

#[derive(Debug)]
struct Proof {
    heard: u64,
    due: Instant,
    misses: u32,
}

impl Proofs {
    /// Takes all paths that have to prove themselves, and says which are to be asked now.
    pub fn due(&mut self, in_use: &[InUse], now: Instant) -> Vec<PathId> {
        self.by_path.retain(|path, _| in_use.iter().any(|known| known.path == *path));
        in_use.iter().filter(|known| self.is_due(known, now)).map(|known| known.path).collect()
    }

    fn is_due(&mut self, known: &InUse, now: Instant) -> bool {
        let first = || Proof { heard: known.heard, due: now + FIRST, misses: 0 };
        let proof = self.by_path.entry(known.path).or_insert_with(first);
        if proof.heard != known.heard {
            *proof = Proof { heard: known.heard, due: now + SILENCE, misses: 0 };
        }
        let due = proof.due <= now;
        if due {
            proof.due = now + SILENCE;
        }
        due
    }

    pub fn answered(&mut self, path: PathId) {
        if let Some(proof) = self.by_path.get_mut(&path) {
            proof.misses = 0;
        }
    }

    /// A question had no answer: whether that is the end of it. A path that nobody watches here is not spared.
    pub fn missed(&mut self, path: PathId, now: Instant) -> bool {
        let Some(proof) = self.by_path.get_mut(&path) else { return true };
        proof.misses += 1;
        proof.due = now + AGAIN;
        proof.misses >= MISSES
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    const PATH: PathId = PathId(1);

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    /// When the path is asked in the first `seconds`, where it has heard `heard(second)` things by then.
    fn asked(proofs: &mut Proofs, seconds: u64, heard: impl Fn(u64) -> u64) -> Vec<u64> {
        let start = Instant::now();
        let at = |number: &u64| {
            let known = InUse { path: PATH, heard: heard(*number) };
            !proofs.due(&[known], start + second(*number)).is_empty()
        };
        (0..seconds).filter(at).collect()
    }

    #[test]
    fn a_silent_path_is_asked_soon_and_then_now_and_then() {
        assert_eq!(asked(&mut Proofs::default(), 15, |_| 0), [2, 7, 12]);
    }

    #[test]
    fn a_path_that_is_heard_is_not_asked() {
        assert_eq!(asked(&mut Proofs::default(), 30, |second| second), [0; 0]);
        assert_eq!(asked(&mut Proofs::default(), 16, |second| second.min(6)), [11]);
    }

    #[test]
    fn three_misses_in_a_row_end_a_path_and_an_answer_forgives() {
        let (mut proofs, now) = (Proofs::default(), Instant::now());
        let silent = [InUse { path: PATH, heard: 0 }];
        proofs.due(&silent, now);
        assert!(!proofs.missed(PATH, now) && !proofs.missed(PATH, now));
        proofs.answered(PATH);
        assert!(!proofs.missed(PATH, now) && !proofs.missed(PATH, now));
        assert_eq!(proofs.due(&silent, now + AGAIN), [PATH], "asked again soon");
        proofs.due(&[InUse { path: PATH, heard: 1 }], now);
        assert!(!proofs.missed(PATH, now) && !proofs.missed(PATH, now) && proofs.missed(PATH, now));
    }

    #[test]
    fn a_path_without_sessions_is_forgotten() {
        let (mut proofs, now) = (Proofs::default(), Instant::now());
        proofs.due(&[InUse { path: PATH, heard: 0 }], now);
        proofs.due(&[], now);
        assert!(proofs.missed(PATH, now), "as any that is not watched here");
    }
}
