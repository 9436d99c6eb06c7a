//! The files of the node, as the daemon would read them.

use peerup_trust::authorized_keys::AuthorizedKeys;

use super::Check;
use crate::{
    place::{NodeFiles, read_identity, read_private_keys_text},
    render::short_id,
};

pub fn checks(node: &NodeFiles) -> Vec<Check> {
    let mut checks = vec![identity(node)];
    checks.extend(keys(node));
    if node.config.relay.addresses.is_empty() && !node.config.discovery.mdns.is_auto() {
        checks.push(
            Check::warning(
                "relay-none",
                "no relay is configured, and discovery.mdns is off: peers cannot find this machine",
            )
            .hint("peerup relay add ADDRESS"),
        );
    }
    checks
}

fn identity(node: &NodeFiles) -> Check {
    let file = &node.config.identity.key_file;
    match read_identity(file) {
        Ok(Some(keypair)) => {
            Check::ok("identity", format!("this machine is {}", keypair.public().to_peer_id()))
        }
        Ok(None) => Check::note("identity", format!("{} is made at the first start", file.display())),
        Err(failure) => Check::of("identity", &failure),
    }
}

fn keys(node: &NodeFiles) -> Vec<Check> {
    let file = &node.config.security.authorized_keys_file;
    let text = match read_private_keys_text(file) {
        Ok(text) => text,
        Err(failure) => return vec![Check::of("keys", &failure)],
    };
    let (keys, problems) = AuthorizedKeys::parse_lenient(&text);
    if let Some(problem) = problems.first() {
        let text = format!("{}: {problem}; a daemon refuses the whole file", file.display());
        return vec![Check::failed("keys", text).hint("peerup auth validate")];
    }
    let unix = peerup_clock::unix();
    let expired = keys.entries().filter(|entry| entry.is_expired(unix));
    let mut checks: Vec<Check> = expired
        .map(|entry| {
            let name = entry.comment().map_or_else(|| short_id(&entry.peer()), str::to_owned);
            Check::warning("key-expired", format!("the key of {name} has expired"))
                .hint(format!("peerup auth remove {}", entry.peer()))
        })
        .collect();
    let count = keys.entries().count();
    checks.push(match count {
        0 => Check::warning("keys", "nobody may connect yet")
            .hint("pair with `peerup invite` and `peerup join`"),
        _ => Check::ok("keys", format!("{count} peer{} may connect", if count == 1 { "" } else { "s" })),
    });
    checks
}
