//! Whether the host's own firewall would drop what peers send to the interface. Only looked at: the firewall is never
//! changed.
//!
//! The kernel's rules say it, and reading them needs root; without, what ufw and firewalld leave on disk tells at least
//! that one of them is at work. A rule set can be arbitrarily clever, so the verdict is a hint, not a proof: it looks for
//! an input chain that ends in dropping, and for a rule that accepts the interface.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

/// Rule sets beyond this are not read.
const MAX_RULES: usize = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputFirewall {
    /// Nothing drops by default what arrives on the interface.
    Open,
    /// Something does, and nothing seems to accept the interface.
    Filters {
        what: String,
        /// How to let the interface through.
        fix: String,
    },
    /// It cannot be told.
    Unknown { why: String },
}

/// Looks at this host. Runs `nft`, which has to be installed.
pub fn input_firewall(interface: &str) -> InputFirewall {
    match Command::new("nft").args(["-j", "list", "ruleset"]).output() {
        Ok(output) if output.status.success() && output.stdout.len() <= MAX_RULES => {
            from_rules(&output.stdout, interface)
        }
        Ok(_) | Err(_) => from_files(Path::new("/"), interface),
    }
}

fn from_rules(rules: &[u8], interface: &str) -> InputFirewall {
    let Ok(ruleset) = serde_json::from_slice::<Value>(rules) else {
        return InputFirewall::Unknown { why: "nft says something that is not understood".into() };
    };
    let objects: Vec<&Value> = ruleset["nftables"].as_array().into_iter().flatten().collect();
    let rules: Vec<&Value> = objects.iter().filter_map(|object| object.get("rule")).collect();
    let chains = objects.iter().filter_map(|object| object.get("chain"));
    let dropping = chains.filter(|chain| chain["hook"] == "input").find(|chain| drops(chain, &rules));
    let Some(chain) = dropping else { return InputFirewall::Open };
    let (family, table, name) = (text(&chain["family"]), text(&chain["table"]), text(&chain["name"]));
    let of_table = |rule: &&&Value| rule["table"] == chain["table"] && rule["family"] == chain["family"];
    if rules.iter().filter(of_table).any(|rule| accepts(rule, interface)) {
        return InputFirewall::Open;
    }
    let what = format!("nftables chain {family} {table} {name} drops what no rule accepts");
    InputFirewall::Filters { what, fix: fix(Path::new("/"), interface, (family, table, name)) }
}

/// By its policy, or by a last rule that drops whatever reaches it.
fn drops(chain: &Value, rules: &[&Value]) -> bool {
    let of_chain = |rule: &&&Value| {
        ["family", "table"].iter().all(|key| rule[key] == chain[key]) && rule["chain"] == chain["name"]
    };
    let last = rules.iter().rev().find(of_chain);
    let unconditional = |rule: &Value| {
        let statements: Vec<&Value> = rule["expr"].as_array().into_iter().flatten().collect();
        statements.iter().all(|statement| statement.get("match").is_none())
            && statements.iter().any(|one| one.get("drop").is_some() || one.get("reject").is_some())
    };
    chain["policy"] == "drop" || last.is_some_and(|rule| unconditional(rule))
}

/// A rule whose only condition is the interface.
fn accepts(rule: &Value, interface: &str) -> bool {
    let statements: Vec<&Value> = rule["expr"].as_array().into_iter().flatten().collect();
    let conditions: Vec<&Value> = statements.iter().filter_map(|statement| statement.get("match")).collect();
    let is_interface = |condition: &&Value| {
        let key = &condition["left"]["meta"]["key"];
        (key == "iifname" || key == "iif") && names(&condition["right"], interface)
    };
    let lets_in = |statement: &&Value| {
        ["accept", "jump", "goto"].iter().any(|verdict| statement.get(verdict).is_some())
    };
    !conditions.is_empty() && conditions.iter().all(is_interface) && statements.iter().any(lets_in)
}

/// `"peerup0"`, `"peerup*"` or a set of such.
fn names(right: &Value, interface: &str) -> bool {
    match right {
        Value::String(name) => match name.strip_suffix('*') {
            Some(prefix) => interface.starts_with(prefix),
            None => name == interface,
        },
        Value::Array(list) => list.iter().any(|one| names(one, interface)),
        Value::Object(object) => object.get("set").is_some_and(|set| names(set, interface)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What managers of firewalls leave where anybody can read it.
fn from_files(root: &Path, interface: &str) -> InputFirewall {
    if let Some(manager) = manager(root) {
        let what = format!("{manager} is on; whether it accepts {interface} is not known without root");
        return InputFirewall::Filters { what, fix: manager_fix(manager, interface) };
    }
    InputFirewall::Unknown { why: "the kernel's rules can be read by root only, with nft installed".into() }
}

fn manager(root: &Path) -> Option<&'static str> {
    let ufw = fs::read_to_string(root.join("etc/ufw/ufw.conf")).unwrap_or_default();
    if ufw.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes")) {
        return Some("ufw");
    }
    root.join("run/firewalld").exists().then_some("firewalld")
}

fn manager_fix(manager: &str, interface: &str) -> String {
    match manager {
        "ufw" => format!("sudo ufw allow in on {interface}"),
        _ => format!("sudo firewall-cmd --zone=trusted --add-interface={interface}"),
    }
}

fn fix(root: &Path, interface: &str, (family, table, chain): (&str, &str, &str)) -> String {
    match manager(root) {
        Some(manager) => manager_fix(manager, interface),
        None => format!("sudo nft insert rule {family} {table} {chain} iifname {interface} accept"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_host_without_input_rules_is_open() {
        assert_eq!(verdict(&[]), InputFirewall::Open);
        assert_eq!(verdict(&[chain("accept"), rule(json!([established(), accept()]))]), InputFirewall::Open);
        let forward = json!({"chain": {"family": "inet", "table": "t", "name": "f", "hook": "forward", "policy": "drop"}});
        assert_eq!(verdict(&[forward]), InputFirewall::Open);
    }

    #[test]
    fn a_chain_that_drops_is_named_with_the_rule_that_would_help() {
        let rules = [chain("drop"), rule(json!([established(), accept()]))];
        let InputFirewall::Filters { what, fix } = verdict(&rules) else { panic!("it filters") };
        assert_eq!(what, "nftables chain inet filter input drops what no rule accepts");
        assert!(fix.contains("peerup0"), "{fix}");
        let last = [chain("accept"), rule(json!([{"counter": null}, {"reject": null}]))];
        assert!(matches!(verdict(&last), InputFirewall::Filters { .. }));
    }

    #[test]
    fn a_rule_for_the_interface_opens_it_and_one_for_a_port_on_it_does_not() {
        for right in [json!("peerup0"), json!("peerup*"), json!({"set": ["lo", "peerup0"]})] {
            let rules = [chain("drop"), rule(json!([on(right), accept()]))];
            assert_eq!(verdict(&rules), InputFirewall::Open);
        }
        let port = json!({"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 22}});
        for expr in [json!([on(json!("peerup0")), port, accept()]), json!([on(json!("eth0")), accept()])] {
            assert!(matches!(verdict(&[chain("drop"), rule(expr)]), InputFirewall::Filters { .. }));
        }
    }

    #[test]
    fn without_root_the_manager_tells_that_there_is_one() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(from_files(root.path(), "peerup0"), InputFirewall::Unknown { .. }));
        fs::create_dir_all(root.path().join("etc/ufw")).unwrap();
        fs::write(root.path().join("etc/ufw/ufw.conf"), "# on\nENABLED=yes\n").unwrap();
        let InputFirewall::Filters { fix, .. } = from_files(root.path(), "peerup0") else {
            panic!("ufw is on")
        };
        assert_eq!(fix, "sudo ufw allow in on peerup0");
    }

    proptest! {
        #[test]
        fn no_output_of_nft_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            from_rules(&bytes, "peerup0");
        }
    }

    fn verdict(objects: &[Value]) -> InputFirewall {
        let ruleset = json!({"nftables": objects});
        from_rules(ruleset.to_string().as_bytes(), "peerup0")
    }

    fn chain(policy: &str) -> Value {
        json!({"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input", "policy": policy}})
    }

    fn rule(expr: Value) -> Value {
        json!({"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": expr}})
    }

    fn established() -> Value {
        json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}})
    }

    fn on(right: Value) -> Value {
        json!({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": right}})
    }

    fn accept() -> Value {
        json!({"accept": null})
    }
}
