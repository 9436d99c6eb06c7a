//! `peerup ssh-config`: the lines that let plain `ssh NAME` go through `peerup nc`.

use std::{collections::BTreeSet, env};

use peerup_control::Runtime;

use super::{Context, block_on};
use crate::failure::{Exit, Failure};

pub fn run(context: &Context) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    let configured = node.config.names.keys().map(ToString::to_string);
    // A running daemon knows what peers call themselves; without one the configuration has to do.
    let introduced = block_on(async {
        let overview = match context.place.daemon().await {
            Ok(daemon) => daemon.overview().await.ok(),
            Err(_) => None,
        };
        Ok(overview.map(|overview| overview.peers).unwrap_or_default())
    })?;
    let introduced = introduced.into_iter().filter_map(|peer| peer.name).filter(|name| is_host(name));
    let names: BTreeSet<String> = configured.chain(introduced).collect();
    let program = env::current_exe().map_or_else(|_| "peerup".into(), |path| path.display().to_string());
    let file = node.file.display().to_string();
    block(&names, &program, &file).iter().try_for_each(|line| context.terminal.line(line))?;
    Ok(Exit::Ok)
}

fn block(names: &BTreeSet<String>, program: &str, config: &str) -> Vec<String> {
    let hosts: Vec<&str> = ["*.peerup"].into_iter().chain(names.iter().map(String::as_str)).collect();
    vec![
        "# peerup: append this to ~/.ssh/config".to_owned(),
        format!("Host {}", hosts.join(" ")),
        format!("    ProxyCommand {} --config {} nc %h %p", quoted(program), quoted(config)),
    ]
}

/// A short peer ID stands where nobody gave a name.
fn is_host(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// For the shell that ssh starts, and for ssh, which takes `%` for its own.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+,@:".contains(c);
    let word = word.replace('%', "%%");
    if word.chars().all(|c| plain(c) || c == '%') {
        word
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_names_the_peers_and_survives_odd_paths() {
        let names = ["home".to_owned(), "vps".to_owned()].into();
        let lines = block(&names, "/usr/bin/peerup", "/home/alice/my config/100%.yaml");
        assert_eq!(lines[1], "Host *.peerup home vps");
        let expected =
            "    ProxyCommand /usr/bin/peerup --config '/home/alice/my config/100%%.yaml' nc %h %p";
        assert_eq!(lines[2], expected);
        assert!(is_host("home-2") && !is_host("…NSv5bcCx"));
    }
}
