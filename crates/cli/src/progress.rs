//! A spinner while something takes long, on a terminal only and never with `--quiet`.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal::Terminal;

const FRAME: Duration = Duration::from_millis(120);

/// Goes away when dropped. It turns on a thread of its own, so it starts after privileges are dropped.
pub struct Spinner(Option<ProgressBar>);

impl Spinner {
    pub fn start(terminal: &Terminal, text: &str) -> Self {
        // It is drawn on standard error, so that standard output stays a result.
        if terminal.is_quiet() || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is one");
        let bar = ProgressBar::new_spinner().with_style(style).with_message(text.to_owned());
        bar.enable_steady_tick(FRAME);
        Self(Some(bar))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
