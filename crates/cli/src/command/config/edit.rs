//! `config edit`: the user's editor on a copy, which replaces the file once it is valid.

use std::{
    env,
    io::{self, IsTerminal},
    path::Path,
    process::Command,
    time::Duration,
};

use peerup_config::edit::Edited;
use peerup_service::files::write_private_atomic;

use super::{
    Target, beside,
    change::{on_probation, refuse_on_probation},
};
use crate::{
    edit::edit_file,
    failure::{Exit, Failure},
    place::read_text,
};

pub fn run(target: &Target<'_>, confirm: Option<Duration>) -> Result<Exit, Failure> {
    refuse_on_probation(target)?;
    let before = target.read()?;
    let copy = beside(&target.file, "edit");
    write_private_atomic(&copy, before.as_bytes())?;
    let outcome = edit_copy(target, &before, &copy, confirm);
    // The copy holds nothing that the file or the rejected text does not.
    let _ = std::fs::remove_file(&copy);
    outcome
}

fn edit_copy(
    target: &Target<'_>,
    before: &str,
    copy: &Path,
    confirm: Option<Duration>,
) -> Result<Exit, Failure> {
    let terminal = &target.context.terminal;
    loop {
        open_editor(copy)?;
        let after = read_text(copy)?;
        if after == before {
            terminal.note("nothing changed")?;
            return Ok(Exit::Ok);
        }
        match target.parse(&after) {
            Ok(parsed) => {
                target.guard(before, &parsed, confirm).map_err(|failure| kept(target, &after, failure))?;
                if let Some(timeout) = confirm {
                    let done = format!("{} is changed", target.file.display());
                    return on_probation(target, &after, timeout, &done);
                }
                replace(target, before, &after)?;
                let told = target.tell()?;
                terminal.note(format_args!("{} is changed", target.file.display()))?;
                let old = target.parse(before).map(|old| old.resolved).ok();
                target.note_waiting(old.as_ref(), &parsed.resolved, told)?;
                return Ok(Exit::Ok);
            }
            Err(failure) if again(target, &failure)? => {}
            Err(failure) => return Err(rejected(target, &after, failure)),
        }
    }
}

fn again(target: &Target<'_>, failure: &Failure) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    target.context.terminal.warn(failure.message())?;
    let answer = target.context.terminal.ask("edit again? [Y/n]")?;
    Ok(!answer.trim().eq_ignore_ascii_case("n"))
}

fn rejected(target: &Target<'_>, text: &str, failure: Failure) -> Failure {
    kept(target, text, failure.while_doing("the file stays as it was"))
}

/// Nothing that somebody typed is lost.
fn kept(target: &Target<'_>, text: &str, failure: Failure) -> Failure {
    let kept = beside(&target.file, "rejected");
    match write_private_atomic(&kept, text.as_bytes()) {
        Ok(()) => failure.also_hint(&format!("what you typed is in {}", kept.display())),
        Err(error) => error.into(),
    }
}

fn replace(target: &Target<'_>, before: &str, after: &str) -> Result<(), Failure> {
    let conflict =
        Failure::new(format!("{} was changed meanwhile", target.file.display())).exit(Exit::Conflict);
    let mut changed_meanwhile = false;
    edit_file(&target.file, |current| {
        changed_meanwhile = current != before;
        Ok(if changed_meanwhile { Edited::Unchanged } else { Edited::Changed(after.to_owned()) })
    })?;
    if changed_meanwhile { Err(rejected(target, after, conflict)) } else { Ok(()) }
}

/// `$VISUAL`, else `$EDITOR`, else vi; a value may have arguments, so the shell takes it apart.
fn open_editor(file: &Path) -> Result<(), Failure> {
    let named = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(format!("the editor `{editor}` failed: {why}; the file stays as it was"))
            .hint("set EDITOR to the editor you use")
    };
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file)
        .status()
        .map_err(|error| failed(&error))?;
    if status.success() { Ok(()) } else { Err(failed(&status)) }
}
