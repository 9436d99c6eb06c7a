//! `peerup doctor`: checks in the order in which things depend on each other, each with the way to mend it. It changes
//! nothing, works without a daemon and without root, and its output holds no secret.

mod files;
mod host;
mod running;

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::{
    failure::{Exit, Failure},
    terminal::{Colour, Terminal},
};

#[derive(Debug, Args)]
pub struct Doctor {
    /// Look at this peer, too: name, overlay address or peer ID
    pub peer: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable, for scripts.
    code: &'static str,
    verdict: Verdict,
    text: String,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Ok,
    /// Worth knowing, nothing to mend.
    Note,
    Warning,
    Failed,
}

impl Check {
    fn new(code: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { code, verdict, text: text.into(), hint: None }
    }

    fn ok(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Ok, text)
    }

    fn note(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Note, text)
    }

    fn warning(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Warning, text)
    }

    fn failed(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Failed, text)
    }

    fn of(code: &'static str, failure: &Failure) -> Self {
        Self { hint: failure.hint_text().map(str::to_owned), ..Self::failed(code, failure.message()) }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

pub fn run(context: &Context, args: &Doctor) -> Result<Exit, Failure> {
    let checks = all(context, args.peer.as_deref());
    if args.json {
        context.terminal.json(&checks)?;
    } else {
        checks
            .iter()
            .flat_map(|check| lines(check, &context.terminal))
            .try_for_each(|line| context.terminal.line(line))?;
    }
    Ok(match checks.iter().map(|check| check.verdict).max() {
        Some(Verdict::Failed) => Exit::Failure,
        Some(Verdict::Warning) => Exit::Degraded,
        Some(Verdict::Note | Verdict::Ok) | None => Exit::Ok,
    })
}

/// Every check that makes sense as far as the ones before it went.
pub fn all(context: &Context, peer: Option<&str>) -> Vec<Check> {
    let node = match context.place.load_node() {
        Ok(node) => node,
        Err(failure) => return vec![Check::of("config", &failure)],
    };
    let mut checks = vec![Check::ok("config", format!("{} is valid", node.file.display()))];
    checks.extend(files::checks(&node));
    let running = running::Running::ask(&node);
    checks.extend(host::checks(&node, running.is_some()));
    checks.extend(running::checks(&node, running.as_ref()));
    if let (Some(peer), Some(running)) = (peer, &running) {
        checks.extend(running::peer_checks(&node, running, peer));
    }
    checks
}

fn lines(check: &Check, terminal: &Terminal) -> Vec<String> {
    let (word, colour) = match check.verdict {
        Verdict::Ok => ("ok", Colour::Green),
        Verdict::Note => ("note", Colour::Bold),
        Verdict::Warning => ("warning", Colour::Yellow),
        Verdict::Failed => ("failed", Colour::Red),
    };
    let mut lines = vec![format!("{}  {}", terminal.paint(colour, format_args!("{word:<7}")), check.text)];
    lines.extend(check.hint.as_ref().map(|hint| format!("         hint: {hint}")));
    lines
}
