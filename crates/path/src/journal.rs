//! The decision journal: what a machine was told, so that another process can reach the same decisions.
//!
//! A journal holds inputs only, each with its time, and the state in which the machine was before the first of them;
//! the seed of its randomness is part of that state. It is a bounded ring: when the newer half is full, the older half
//! is dropped, and a copy of the machine taken in between is where a replay begins.
//!
//! On paper it is JSON, one value per line: a head with the state, then one line per input.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    action::{Action, Event},
    explain::Explanation,
    input::Input,
    machine::Machine,
    moment::Moment,
};

/// Inputs between two copies of the machine. Some three inputs a second while there is traffic, none while there is
/// none: at least the last minutes, in a few hundred kilobytes.
const HALF: usize = 1024;
/// The form that this version writes and reads.
const FORM: u32 = 2;
/// No export is longer; what a replay reads may come from anywhere.
const MAX_LINES: usize = 4 * HALF;

#[derive(Debug, Clone)]
struct Chapter {
    before: Machine,
    inputs: VecDeque<(Moment, Input)>,
}

/// Records the inputs of one machine.
#[derive(Debug, Clone)]
pub struct Journal {
    older: Option<Box<Chapter>>,
    newer: Box<Chapter>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    peerup_journal: u32,
    /// Unix time of the export, and the machine's time then.
    unix: u64,
    now: Moment,
    machine: Machine,
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the file is empty")]
    Empty,
    #[error("the journal is of form {0}; this version reads form {FORM}")]
    Form(u32),
    #[error("line {line} is not part of a journal")]
    Line { line: usize, source: serde_json::Error },
    #[error("the journal has more than {MAX_LINES} lines")]
    TooLong,
}

/// What a replay came to.
#[derive(Debug)]
pub struct Replay {
    /// Every decision with its time, in order.
    pub decisions: Vec<(Moment, Decision)>,
    pub inputs: usize,
    /// Unix time of the export.
    pub unix: u64,
    /// The machine's time of the export.
    pub now: Moment,
    pub explanation: Explanation,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    Did(Action),
    Reported(Event),
}

impl Journal {
    pub fn new(before: Machine) -> Self {
        Self { older: None, newer: Box::new(Chapter { before, inputs: VecDeque::new() }) }
    }

    /// `machine` is about to take `input`.
    pub fn record(&mut self, machine: &Machine, input: &Input, now: Moment) {
        if self.newer.inputs.len() >= HALF {
            let next = Box::new(Chapter { before: machine.clone(), inputs: VecDeque::new() });
            self.older = Some(std::mem::replace(&mut self.newer, next));
        }
        self.newer.inputs.push_back((now, input.clone()));
    }

    /// The journal on paper.
    pub fn export(&self, now: Moment, unix: u64) -> String {
        let first = self.older.as_ref().unwrap_or(&self.newer);
        let mut machine = first.before.clone();
        machine.drain();
        let head = Head { peerup_journal: FORM, unix, now, machine };
        let inputs = self.older.iter().flat_map(|chapter| &chapter.inputs).chain(&self.newer.inputs);
        let head = serde_json::to_string(&head).expect("plain data with text keys");
        let lines = inputs.map(|line| serde_json::to_string(line).expect("plain data with text keys"));
        [head].into_iter().chain(lines).map(|line| line + "\n").collect()
    }
}

/// Makes the decisions of an exported journal again.
pub fn replay(text: &str) -> Result<Replay, ReplayError> {
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let (line, head) = lines.next().ok_or(ReplayError::Empty)?;
    let form: Form = serde_json::from_str(head).map_err(|source| ReplayError::Line { line, source })?;
    if form.peerup_journal != FORM {
        return Err(ReplayError::Form(form.peerup_journal));
    }
    let head: Head = serde_json::from_str(head).map_err(|source| ReplayError::Line { line, source })?;
    let Head { mut machine, now, unix, .. } = head;
    let mut decisions = Vec::new();
    let mut inputs = 0;
    for (line, text) in lines {
        if line > MAX_LINES {
            return Err(ReplayError::TooLong);
        }
        let (at, input): (Moment, Input) =
            serde_json::from_str(text).map_err(|source| ReplayError::Line { line, source })?;
        inputs += 1;
        machine.handle(input, at);
        decisions.extend(machine.drain().into_iter().map(|decision| (at, decision)));
    }
    Ok(Replay { decisions, inputs, unix, now, explanation: machine.explain(now) })
}

#[derive(Deserialize)]
struct Form {
    peerup_journal: u32,
}

impl Machine {
    fn drain(&mut self) -> Vec<Decision> {
        let actions: Vec<_> = std::iter::from_fn(|| self.poll_action()).map(Decision::Did).collect();
        let events = std::iter::from_fn(|| self.poll_event()).map(Decision::Reported);
        actions.into_iter().chain(events).collect()
    }
}
