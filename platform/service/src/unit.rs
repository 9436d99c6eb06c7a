//! systemd units for a node and a relay.
//!
//! One text for each, made from what differs between hosts: the user, the binary, the configuration. Everything that
//! a node or relay does not need is taken from it: `systemd-analyze security` shows what is left.

use std::path::{Path, PathBuf};

/// What the unit runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Node,
    /// `low_ports`: one of its listeners is below 1024.
    Relay {
        low_ports: bool,
    },
}

impl Role {
    pub fn unit_name(self) -> &'static str {
        match self {
            Self::Node => "peerup.service",
            Self::Relay { .. } => "peerup-relay.service",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub role: Role,
    /// Who owns the configuration.
    pub user: String,
    pub binary: PathBuf,
    pub config: PathBuf,
}

/// A path or name that a unit file cannot hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` cannot stand in a unit file: it contains {what}", text.escape_debug())]
pub struct UnitTextError {
    text: String,
    what: &'static str,
}

impl Unit {
    pub fn text(&self) -> Result<String, UnitTextError> {
        let binary = quoted(&self.binary)?;
        let config = quoted(&self.config)?;
        let directory = quoted(self.config.parent().unwrap_or(Path::new("/")))?;
        let user = word(&self.user)?;
        let (description, start, extra) = match self.role {
            Role::Node => (
                "peerup: one private network over your machines",
                format!(
                    "ExecStart={binary} daemon start --config {config}\nExecStopPost={binary} down --cleanup --quiet --config {config}"
                ),
                NODE,
            ),
            Role::Relay { low_ports: false } => {
                ("peerup relay", format!("ExecStart={binary} relay serve --config {config}"), RELAY)
            }
            Role::Relay { low_ports: true } => {
                ("peerup relay", format!("ExecStart={binary} relay serve --config {config}"), RELAY_LOW_PORTS)
            }
        };
        Ok(format!(
            "# Written by `peerup service-unit install`, which replaces it. Changes of your own: `systemctl edit {name}`.
[Unit]
Description={description}
Documentation=man:peerup(1)
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User={user}
{start}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=5
WatchdogSec=90
TimeoutStopSec=10
ReadWritePaths={directory}
{extra}{HARDENING}
[Install]
WantedBy=multi-user.target
",
            name = self.role.unit_name()
        ))
    }
}

/// A node makes one interface and its routes, and nothing else of the host.
const NODE: &str = "AmbientCapabilities=CAP_NET_ADMIN
CapabilityBoundingSet=CAP_NET_ADMIN
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
MemoryMax=512M
";

const RELAY: &str = "AmbientCapabilities=
CapabilityBoundingSet=
PrivateDevices=yes
PrivateUsers=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
MemoryMax=512M
";

const RELAY_LOW_PORTS: &str = "AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
PrivateDevices=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
MemoryMax=512M
";

const HARDENING: &str = "NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@resources
SystemCallErrorNumber=EPERM
UMask=0077
LimitNOFILE=65536
TasksMax=256
";

/// systemd.syntax(7): double quotes, with `\\`, `"` and `%` (a specifier), and `$` (a variable) doubled or escaped.
fn quoted(path: &Path) -> Result<String, UnitTextError> {
    let text = path.to_string_lossy();
    let fail = |what| Err(UnitTextError { text: text.clone().into_owned(), what });
    if path.to_str().is_none() {
        return fail("bytes that are not UTF-8");
    }
    if text.chars().any(char::is_control) {
        return fail("a control character");
    }
    let plain = text.chars().all(|c| c.is_alphanumeric() || "/._-+@:".contains(c));
    if plain {
        return Ok(text.into_owned());
    }
    let escaped: String = text.chars().map(escaped).collect();
    Ok(format!("\"{escaped}\""))
}

fn escaped(c: char) -> String {
    match c {
        '\\' => "\\\\".into(),
        '"' => "\\\"".into(),
        '%' => "%%".into(),
        '$' => "$$".into(),
        other => other.into(),
    }
}

fn word(text: &str) -> Result<&str, UnitTextError> {
    let fail = |what| Err(UnitTextError { text: text.to_owned(), what });
    if text.is_empty() {
        return fail("nothing");
    }
    match text.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)) {
        true => Ok(text),
        false => fail("something else than letters, digits, `.`, `_` and `-`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(role: Role) -> Unit {
        Unit {
            role,
            user: "alice".into(),
            binary: "/usr/bin/peerup".into(),
            config: "/home/alice/.config/peerup/config.yaml".into(),
        }
    }

    #[test]
    fn a_node_keeps_one_capability_and_cleans_up_after_a_crash() {
        let text = unit(Role::Node).text().unwrap();
        for line in [
            "ExecStart=/usr/bin/peerup daemon start --config /home/alice/.config/peerup/config.yaml",
            "ExecStopPost=/usr/bin/peerup down --cleanup --quiet --config /home/alice/.config/peerup/config.yaml",
            "ReadWritePaths=/home/alice/.config/peerup",
            "AmbientCapabilities=CAP_NET_ADMIN",
            "User=alice",
            "Type=notify",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_relay_keeps_no_capability_unless_its_port_is_low() {
        let text = unit(Role::Relay { low_ports: false }).text().unwrap();
        assert!(text.contains("\nCapabilityBoundingSet=\n") && !text.contains("ExecStopPost"), "{text}");
        let low = unit(Role::Relay { low_ports: true }).text().unwrap();
        assert!(low.contains("\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n"), "{low}");
    }

    #[test]
    fn odd_paths_are_quoted_and_impossible_ones_refused() {
        let at = |config: &str| Unit { config: config.into(), ..unit(Role::Node) }.text();
        assert!(at("/home/a b/50%/$x/c.yaml").unwrap().contains("--config \"/home/a b/50%%/$$x/c.yaml\""));
        assert!(at("/home/a\nExecStart=/bin/sh/c.yaml").is_err());
        let stranger = Unit { user: "alice\nUser=root".into(), ..unit(Role::Node) };
        assert!(stranger.text().is_err());
    }
}
