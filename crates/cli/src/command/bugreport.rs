//! `peerup bugreport`: everything a stranger needs to understand a problem, in one text, without what opens a door.
//! Keys and cookies are not read; what looks like one in a log is replaced ([`crate::redact`]).

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use clap::Args;
use peerup_control::Runtime;
use peerup_service::files::write_private_atomic;
use peerup_trust::authorized_keys::AuthorizedKeys;
use serde::Serialize;

use super::{Context, block_on, doctor};
use crate::{
    failure::{Exit, Failure},
    place::{NodeFiles, read_keys_text},
    redact::Redactor,
    version,
};

/// The end of the log, which is where the problem is.
const LOG_BYTES: u64 = 64 << 10;

#[derive(Debug, Args)]
pub struct Bugreport {
    /// Write it to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Replace public IP addresses, too
    #[arg(long)]
    pub hide_addresses: bool,
}

pub fn run(context: &Context, args: &Bugreport) -> Result<Exit, Failure> {
    let mut redactor = Redactor::new(args.hide_addresses);
    let text = redactor.text(&report(context));
    match &args.output {
        None => context.terminal.line(text.trim_end())?,
        Some(file) => {
            let file = context.place.resolve(file);
            write_private_atomic(&file, text.as_bytes())?;
            context.terminal.note(format_args!("written to {}", file.display()))?;
        }
    }
    context.terminal.warn("Read it before you send it: it names your machines, peers and relays.")?;
    Ok(Exit::Ok)
}

fn report(context: &Context) -> String {
    let mut text = String::new();
    section(&mut text, "peerup", &format!("peerup {}", version::LONG));
    section(&mut text, "system", &system());
    section(&mut text, "doctor", &json(&doctor::all(context, None)));
    match context.place.load_node() {
        Err(failure) => section(&mut text, "configuration", failure.message()),
        Ok(node) => {
            section(&mut text, "configuration", &node.config.resolved().to_string());
            section(&mut text, "authorized_keys", &keys(&node));
            section(&mut text, "files", &files(&node));
            section(&mut text, "daemon", &daemon(context));
            section(&mut text, "log", &log(&node.state.log));
        }
    }
    text
}

fn section(text: &mut String, title: &str, body: &str) {
    text.push_str(&format!("== {title}\n{}\n\n", body.trim_end()));
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("reports have string keys only")
}

/// Kernel and distribution.
fn system() -> String {
    let first =
        |path: &str| fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or("").to_owned();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("?");
    format!("{}\n{}\n{}", first("/proc/version"), name.trim_matches('"'), version::TARGET)
}

/// Who may connect, without comments and proofs.
fn keys(node: &NodeFiles) -> String {
    let text = match read_keys_text(&node.config.security.authorized_keys_file) {
        Ok(text) => text,
        Err(failure) => return failure.message().to_owned(),
    };
    let (keys, problems) = AuthorizedKeys::parse_lenient(&text);
    let entry = |entry: &peerup_trust::authorized_keys::Entry| {
        let names: Vec<_> = entry.attributes().map(|(key, _)| key.to_owned()).collect();
        format!("{} {}\n", entry.peer(), names.join(" "))
    };
    let entries: String = keys.entries().map(entry).collect();
    let problems: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    format!("{entries}{problems}")
}

/// Names, modes, owners and sizes: a wrong one explains many a start that failed.
fn files(node: &NodeFiles) -> String {
    let mut lines: Vec<String> = fs::read_dir(&node.state.dir)
        .map(|entries| entries.filter_map(|entry| Some(file(&entry.ok()?.path()))).collect())
        .unwrap_or_default();
    lines.sort();
    lines.insert(0, file(&node.state.dir));
    lines.join("\n")
}

fn file(path: &Path) -> String {
    match fs::symlink_metadata(path) {
        Ok(found) => {
            format!(
                "{:06o} {}:{} {:>9} {}",
                found.mode(),
                found.uid(),
                found.gid(),
                found.len(),
                path.display()
            )
        }
        Err(error) => format!("{}: {error}", path.display()),
    }
}

fn daemon(context: &Context) -> String {
    let asked = block_on(async {
        let client = context.place.daemon().await?;
        Ok((client.status().await?, client.overview().await?, client.paths().await?))
    });
    match asked {
        Ok((status, overview, paths)) => format!("{}\n{}\n{}", json(&status), json(&overview), json(&paths)),
        Err(failure) => failure.message().to_owned(),
    }
}

fn log(file: &Path) -> String {
    let tail = || -> std::io::Result<String> {
        let mut file = fs::File::open(file)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // The first line is most likely cut, and half a secret is not recognised.
        let whole =
            if length > LOG_BYTES { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
        Ok(whole.to_owned())
    };
    tail().unwrap_or_else(|error| format!("{}: {error}", file.display()))
}
