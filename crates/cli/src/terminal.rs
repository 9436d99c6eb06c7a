//! Standard input and output: colour only for people, and a closed pipe is no error.

use std::{
    env, fmt,
    io::{self, BufRead, IsTerminal, Read, Write},
};

use crate::failure::Failure;

/// Longest line that is read from standard input.
const MAX_LINE: u64 = 4096;
const DEFAULT_WIDTH: usize = 80;

/// Where results go, and how they may look.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    quiet: bool,
    colour: bool,
    /// Notes go to standard error, so that standard output carries nothing but the result.
    notes_to_stderr: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Red,
    Green,
    Yellow,
    Faint,
    Bold,
}

impl Terminal {
    pub fn new(quiet: bool) -> Self {
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { quiet, colour: io::stdout().is_terminal() && !no_color, notes_to_stderr: false }
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// For commands whose standard output a script reads.
    pub fn result_only(self) -> Self {
        Self { notes_to_stderr: true, ..self }
    }

    /// A line of the result.
    pub fn line(&self, text: impl fmt::Display) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Failure::output)
    }

    /// A line around the result: progress, next steps. `--quiet` drops it.
    pub fn note(&self, text: impl fmt::Display) -> Result<(), Failure> {
        match (self.quiet, self.notes_to_stderr) {
            (true, _) => Ok(()),
            (false, true) => self.warn(text),
            (false, false) => self.line(text),
        }
    }

    /// A line on standard error that `--quiet` does not drop.
    pub fn warn(&self, text: impl fmt::Display) -> Result<(), Failure> {
        writeln!(io::stderr().lock(), "{text}").or(Ok(()))
    }

    /// A page in the place of the one before, where somebody looks at it; else one after the other.
    pub fn page(&self, lines: &[String]) -> Result<(), Failure> {
        const HOME_AND_CLEAR: &str = "\x1b[H\x1b[J";
        let mut text = if io::stdout().is_terminal() { HOME_AND_CLEAR.to_owned() } else { String::new() };
        lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        if !io::stdout().is_terminal() {
            text.push('\n');
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
    }

    pub fn json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        self.line(serde_json::to_string_pretty(value).expect("answers have string keys only"))
    }

    pub fn paint(&self, colour: Colour, text: impl fmt::Display) -> String {
        if !self.colour {
            return text.to_string();
        }
        let code = match colour {
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Faint => 2,
            Colour::Bold => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Without colour, 80 columns or as many as said: for tests.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { quiet: false, colour: false, notes_to_stderr: false }
    }

    #[cfg(test)]
    pub fn coloured() -> Self {
        Self { colour: true, ..Self::plain() }
    }

    /// Columns to fill; 80 when nobody is looking.
    pub fn width(&self) -> usize {
        terminal_size::terminal_size().map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0).max(40))
    }

    /// Asks a question and reads the answer; end of input counts as an empty answer.
    pub fn ask(&self, question: &str) -> Result<String, Failure> {
        let mut out = io::stdout().lock();
        write!(out, "{question} ").and_then(|()| out.flush()).map_err(Failure::output)?;
        self.read_line()
    }

    /// One trimmed line of standard input, at most 4096 bytes.
    pub fn read_line(&self) -> Result<String, Failure> {
        let mut line = String::new();
        let mut input = io::stdin().lock().take(MAX_LINE);
        input
            .read_line(&mut line)
            .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
        Ok(line.trim().to_owned())
    }
}
