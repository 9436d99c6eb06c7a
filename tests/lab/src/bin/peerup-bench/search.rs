//! The highest rate that passes, found in a bounded number of attempts.

/// Where the search begins, and the rates it never leaves, in Mbit/s.
const FIRST: f64 = 400.0;
const LEAST: f64 = 25.0;
const MOST: f64 = 6400.0;

/// Rates closer than this are the same: a second of datagrams on a busy machine tells no more.
const CLOSE: f64 = 1.1;

/// Doubles or halves until it has a rate that passes and one that fails, then takes the (geometric) middle.
#[derive(Debug, Default)]
pub struct Search {
    passed: Option<f64>,
    failed: Option<f64>,
}

impl Search {
    /// The next rate to try; `None` at the end.
    pub fn next(&self) -> Option<f64> {
        match (self.passed, self.failed) {
            (None, None) => Some(FIRST),
            (Some(passed), None) => (passed < MOST).then_some(passed * 2.0),
            (None, Some(failed)) => (failed > LEAST).then_some(failed / 2.0),
            (Some(passed), Some(failed)) => (failed > passed * CLOSE).then(|| (passed * failed).sqrt()),
        }
    }

    pub fn tried(&mut self, rate: f64, passed: bool) {
        *(if passed { &mut self.passed } else { &mut self.failed }) = Some(rate);
    }

    /// The highest rate that passed.
    pub fn best(&self) -> Option<f64> {
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_found_from_below_and_from_above_in_a_few_steps() {
        for limit in [26.0, 130.0, 420.0, 800.0, 3300.0, 6300.0] {
            let (best, steps) = search(limit);
            let best = best.unwrap();
            assert!(best <= limit && limit < best * CLOSE * 1.001, "{best} for {limit}");
            assert!(steps <= 9, "{steps} steps for {limit}");
        }
    }

    #[test]
    fn nothing_and_everything_end_the_search_too() {
        assert_eq!(search(1.0).0, None);
        assert_eq!(search(1e9).0, Some(MOST));
    }

    fn search(limit: f64) -> (Option<f64>, u32) {
        let (mut search, mut steps) = (Search::default(), 0);
        while let Some(rate) = search.next() {
            search.tried(rate, rate <= limit);
            steps += 1;
        }
        (search.best(), steps)
    }
}
