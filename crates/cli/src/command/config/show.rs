//! `config show`: every key with its value, and where the value comes from.

use peerup_config::{
    Resolved,
    commit::State,
    edit::{self, Origin},
};

use super::Target;
use crate::{
    args::ShowConfig,
    failure::{Exit, Failure},
    render::units,
};

/// Where the origins stand, unless the value is longer.
const ORIGIN_COLUMN: usize = 52;

pub fn run(target: &Target<'_>, args: &ShowConfig) -> Result<Exit, Failure> {
    let text = target.read()?;
    let resolved = target.parse(&text)?.resolved;
    let terminal = &target.context.terminal;
    match (args.origin, args.json) {
        (true, json) => origins(target, &text, &resolved, json)?,
        (false, true) => terminal.json(&resolved)?,
        (false, false) => {
            terminal.line(format_args!("# Resolved config from {}", target.file.display()))?;
            terminal.line(resolved.to_string().trim_end())?;
            standing(target)?;
        }
    }
    Ok(Exit::Ok)
}

/// What is kept to go back to, and what waits to be confirmed.
fn standing(target: &Target<'_>) -> Result<(), Failure> {
    let store = target.store();
    let terminal = &target.context.terminal;
    if store.paths().last_good.exists() {
        terminal.line(format_args!("# Last good config: {}", store.paths().last_good.display()))?;
    }
    let state = store.state(peerup_clock::since_epoch()).map_err(|error| Failure::of(&error))?;
    match state {
        State::Settled => Ok(()),
        State::Pending { left } => terminal.line(format_args!(
            "# Not confirmed: taken back in {} unless `{} confirm` keeps it",
            units::duration(left.as_secs()),
            target.command()
        )),
        State::Expired => terminal.line("# Not confirmed in time: taken back at the next start"),
    }
}

fn origins(target: &Target<'_>, text: &str, resolved: &Resolved, json: bool) -> Result<(), Failure> {
    let rows = edit::origins(text, resolved).map_err(Failure::from)?;
    let terminal = &target.context.terminal;
    if json {
        let row = |(key, value, origin): &(String, Resolved, Origin)| {
            let line = match origin {
                Origin::Line(line) => Some(*line),
                Origin::Default => None,
            };
            (key.clone(), serde_json::json!({ "value": value, "line": line }))
        };
        return terminal.json(&rows.iter().map(row).collect::<serde_json::Map<_, _>>());
    }
    for (key, value, origin) in rows {
        let text = format!("{key}: {}", edit::one_line(&value));
        match origin {
            Origin::Line(line) => terminal.line(format_args!("{text:ORIGIN_COLUMN$} # line {line}"))?,
            Origin::Default => terminal.line(format_args!("{text:ORIGIN_COLUMN$} # default"))?,
        }
    }
    Ok(())
}
