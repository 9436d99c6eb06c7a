//! `peerup auth`: who may connect. A running daemon makes the change itself, so that it takes effect at once and no
//! two writers meet; without one the file is edited.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use peerup_control::{
    Client, ClientError, Runtime,
    api::{AuthAdd, AuthRow, ResolveRequest, Timestamp},
};
use peerup_service::files::ConfigStore;
use peerup_trust::authorized_keys::{AuthorizedKeys, Entry};
use peerup_types::PeerId;
use serde_json::json;

use super::{Context, block_on};
use crate::{
    args::{Auth, AuthFile},
    edit::tell_daemon,
    failure::{Exit, Failure},
    lockout::{guard, overlay_session},
    place::{NodeFiles, edit_keys, read_keys_text, read_private_keys_text},
    render::{short_id, units},
    terminal::Colour,
};

pub fn run(context: &Context, command: Auth) -> Result<Exit, Failure> {
    match command {
        Auth::Add { peer, comment, expires, ip, file } => {
            add(context, peer, comment, options(expires.as_deref(), ip)?, &file)
        }
        Auth::List { file, json } => list(context, &file, json),
        Auth::Remove { peer, confirm, file } => remove(context, peer, confirm, &file),
        Auth::Validate { file, json } => validate(context, file, json),
    }
}

fn add(
    context: &Context,
    peer: PeerId,
    comment: Option<String>,
    options: BTreeMap<String, String>,
    file: &AuthFile,
) -> Result<Exit, Failure> {
    let path = match target(context, file)? {
        Target::File(path) => path,
        Target::Node(node) => {
            let request = AuthAdd { peer_id: peer, comment: comment.clone(), options: options.clone() };
            if through_daemon(&node, async |client| Ok(client.auth_add(request).await?))? {
                context.terminal.note(format_args!("{peer} may connect"))?;
                return Ok(Exit::Ok);
            }
            node.config.security.authorized_keys_file
        }
    };
    edit_keys(&path, |keys| {
        keys.add(peer, comment.as_deref())?;
        options.iter().try_for_each(|(key, value)| {
            keys.set_attribute(&peer, key, Some(value)).map_err(|error| Failure::of(&error))
        })
    })?;
    context.terminal.note(format_args!("{peer} may connect"))?;
    Ok(Exit::Ok)
}

fn options(expires: Option<&str>, ip: Option<Ipv4Addr>) -> Result<BTreeMap<String, String>, Failure> {
    let expires = expires.map(|text| expiry(text, peerup_clock::unix())).transpose()?;
    let expires = expires.map(|at| ("expires".to_owned(), Timestamp::from_unix(at).to_string()));
    Ok(expires.into_iter().chain(ip.map(|ip| ("ip".to_owned(), ip.to_string()))).collect())
}

/// A duration from here on, a day, or a point in time.
fn expiry(text: &str, unix_now: u64) -> Result<u64, Failure> {
    let after =
        || humantime::parse_duration(text).ok().map(|duration| unix_now.saturating_add(duration.as_secs()));
    let on = |text: &str| {
        let at = humantime::parse_rfc3339(text).ok()?;
        at.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
    };
    let at = on(text).or_else(|| on(&format!("{text}T00:00:00Z"))).or_else(after);
    let at = at.ok_or_else(|| {
        Failure::usage(format!("`{text}` is no time")).hint("write 30d, 2030-01-31 or 2030-01-31T12:00:00Z")
    })?;
    if at <= unix_now {
        return Err(Failure::usage(format!("`{text}` has passed")));
    }
    Ok(at)
}

fn remove(
    context: &Context,
    peer: PeerId,
    confirm: Option<Duration>,
    file: &AuthFile,
) -> Result<Exit, Failure> {
    let path = match target(context, file)? {
        Target::File(path) => path,
        Target::Node(node) => {
            if let Some(timeout) = confirm {
                return remove_for(context, &node, peer, timeout);
            }
            if types_here(&node, peer) {
                guard(&context.terminal, &node.config, "removing this peer", None)?;
            }
            if through_daemon(&node, async |client| Ok(client.auth_remove(peer).await?))? {
                context
                    .terminal
                    .note(format_args!("{peer} may no longer connect; its connections are closed"))?;
                return Ok(Exit::Ok);
            }
            node.config.security.authorized_keys_file
        }
    };
    edit_keys(&path, |keys| keys.remove(&peer))?;
    context.terminal.note(format_args!("{peer} may no longer connect"))?;
    Ok(Exit::Ok)
}

/// Whether the session that this is typed in may come from `peer`; nobody knowing counts as a yes.
fn types_here(node: &NodeFiles, peer: PeerId) -> bool {
    let Some(client) = overlay_session(&node.config) else { return false };
    let mut found = None;
    let asked = through_daemon(node, async |daemon| {
        found = Some(daemon.resolve(ResolveRequest { name: client.to_string() }).await?.peer_id);
        Ok(())
    });
    asked.is_err() || found.is_none_or(|found| found == peer)
}

/// The file changes on probation: whoever finds the deadline passed puts it back.
fn remove_for(context: &Context, node: &NodeFiles, peer: PeerId, timeout: Duration) -> Result<Exit, Failure> {
    let file = &node.config.security.authorized_keys_file;
    let mut keys = AuthorizedKeys::parse(&read_private_keys_text(file)?)
        .map_err(|error| Failure::of(&error).while_doing(file.display()))?;
    keys.remove(&peer).map_err(|error| Failure::of(&error))?;
    ConfigStore::beside(file)
        .apply(&keys.to_text(), peerup_clock::since_epoch(), timeout)
        .map_err(|error| Failure::of(&error).or_hint(error.hint()))?;
    tell_daemon(node)?;
    let left = units::duration(timeout.as_secs());
    context.terminal.note(format_args!("{peer} may no longer connect; taken back in {left}"))?;
    context.terminal.note("`peerup config confirm` keeps it out")?;
    Ok(Exit::Ok)
}

enum Target {
    /// A file named on the command line, whoever uses it.
    File(PathBuf),
    /// The file of this node.
    Node(Box<NodeFiles>),
}

fn target(context: &Context, file: &AuthFile) -> Result<Target, Failure> {
    match &file.file {
        Some(file) => Ok(Target::File(context.place.resolve(file))),
        None => Ok(Target::Node(Box::new(context.place.load_node()?))),
    }
}

/// Whether a daemon did it.
fn through_daemon(
    node: &NodeFiles,
    work: impl AsyncFnOnce(Client) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    block_on(async {
        match Client::connect(&node.state.socket, &node.state.cookie).await {
            Ok(client) => work(client).await.map(|()| true),
            Err(ClientError::NotRunning { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
}

fn list(context: &Context, file: &AuthFile, json: bool) -> Result<Exit, Failure> {
    let path = keys_file(context, file.file.as_deref())?;
    let (keys, problems) = AuthorizedKeys::parse_lenient(&read_keys_text(&path)?);
    if json {
        let rows: Vec<AuthRow> = keys.entries().map(row).collect();
        context.terminal.json(&rows)?;
    } else {
        print_list(context, &keys)?;
    }
    for problem in &problems {
        context.terminal.warn(format_args!("warning: {}: {problem}", path.display()))?;
    }
    Ok(Exit::Ok)
}

fn print_list(context: &Context, keys: &AuthorizedKeys) -> Result<(), Failure> {
    let terminal = &context.terminal;
    terminal.line(format_args!("Authorized peers ({}):", keys.entries().count()))?;
    for (number, entry) in keys.entries().enumerate() {
        let comment = entry.comment().map(|comment| format!("  # {comment}")).unwrap_or_default();
        terminal.line(format_args!("  {}. {}{comment}", number + 1, short_id(&entry.peer())))?;
        terminal.line(
            terminal.paint(Colour::Faint, format_args!("     {}{}", entry.peer(), attributes(entry))),
        )?;
    }
    Ok(())
}

fn attributes(entry: &Entry) -> String {
    let verified =
        entry.verified().map_or_else(|| " [UNVERIFIED]".to_owned(), |sas| format!(" [verified={sas}]"));
    let group = entry.group().map(|group| format!(" [group={group}]")).unwrap_or_default();
    let ip = entry.ip().map(|ip| format!(" [ip={ip}]")).unwrap_or_default();
    let expires = entry.expires().map(|at| {
        let word = if entry.is_expired(peerup_clock::unix()) { "expired" } else { "expires" };
        format!(" [{word}={:.10}]", Timestamp::from_unix(at))
    });
    format!("{group}{ip}{verified}{}", expires.unwrap_or_default())
}

pub fn row(entry: &Entry) -> AuthRow {
    AuthRow {
        peer_id: entry.peer(),
        comment: entry.comment().map(str::to_owned),
        verified: entry.verified().map(str::to_owned),
        expires_at: entry.expires().map(Timestamp::from_unix),
        group: entry.group().map(str::to_owned),
    }
}

fn validate(context: &Context, file: Option<PathBuf>, json: bool) -> Result<Exit, Failure> {
    let path = keys_file(context, file.as_deref())?;
    if file.is_some() && !path.exists() {
        return Err(Failure::new(format!("{} does not exist", path.display()))
            .hint("without FILE, the file of this node is looked at"));
    }
    let (keys, problems) = AuthorizedKeys::parse_lenient(&read_private_keys_text(&path)?);
    if json {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        context.terminal.json(&json!({
            "file": path,
            "valid": problems.is_empty(),
            "peers": keys.entries().count(),
            "problems": problems,
        }))?;
        return Ok(if problems.is_empty() { Exit::Ok } else { Exit::Failure });
    }
    if problems.is_empty() {
        context.terminal.line(format_args!("OK: {}: {} peers", path.display(), keys.entries().count()))?;
        return Ok(Exit::Ok);
    }
    for problem in &problems {
        context.terminal.line(format_args!("{}: {problem}", path.display()))?;
    }
    let lines =
        if problems.len() == 1 { "1 bad line".to_owned() } else { format!("{} bad lines", problems.len()) };
    Err(Failure::new(format!("{lines}; a daemon refuses the whole file"))
        .hint(format!("edit {}", path.display())))
}

fn keys_file(context: &Context, named: Option<&Path>) -> Result<PathBuf, Failure> {
    match named {
        Some(file) => Ok(context.place.resolve(file)),
        None => Ok(context.place.load_node()?.config.security.authorized_keys_file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_duration_a_day_or_a_point_in_time_to_come() {
        let now = 1_767_225_600; // 2026-01-01
        assert_eq!(expiry("30d", now).unwrap(), now + 30 * 86_400);
        assert_eq!(expiry("2026-01-02", now).unwrap(), now + 86_400);
        assert_eq!(expiry("2026-01-01T00:00:01Z", now).unwrap(), now + 1);
        for wrong in ["", "soon", "2025-12-31", "2026-13-01", "1970-01-01"] {
            assert_eq!(expiry(wrong, now).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }
}
