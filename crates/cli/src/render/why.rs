//! Why a path is used: the page of `peerup why`, and the table of `peerup paths PEER`.

use peerup_control::api::{OverviewClass, PathOverview, Timestamp, WhyPath, WhyReport};

use super::{name_of, path, short_id, table::Table, units};
use crate::terminal::Terminal;

/// The verdict first, then what there is, then how it came about.
pub fn page(report: &WhyReport, now: Timestamp, terminal: &Terminal) -> Vec<String> {
    let mut lines = vec![verdict(report, now)];
    if let Some(text) = &report.blocking_text {
        lines.push(format!("not direct: {text}"));
    }
    if let Some(change) = &report.would_change {
        lines.push(format!("would change it: {change}"));
    }
    lines.push(String::new());
    lines.extend(paths(report, terminal));
    lines.push(String::new());
    lines.push(punching(report, now));
    lines.push(String::new());
    lines.extend(history(report, now));
    lines
}

fn verdict(report: &WhyReport, now: Timestamp) -> String {
    let name = name_of(report.name.as_deref(), &report.peer_id);
    let Some(path) = report.paths.iter().find(|path| path.chosen) else {
        return format!("{name}: no path");
    };
    let since = now.unix().saturating_sub(path.since.unix());
    let rtt = path.rtt_ms.map_or(String::new(), |rtt| format!(", {}", units::millis(rtt)));
    format!("{name}: {}{rtt}, open for {}: {}", words(path), units::duration(since), path.text)
}

/// One row per open path, the one in use marked, and one per address that leads to none of them.
pub fn paths(report: &WhyReport, terminal: &Terminal) -> Vec<String> {
    let mut table = Table::new(&["", "PATH", "RTT", "JITTER", "LOSS", "RULE", "ADDRESS"], 6);
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), units::millis);
    for path in &report.paths {
        let mark = if path.chosen { ">" } else { "" };
        let loss = units::share(path.loss_10s.unwrap_or(path.loss_15m));
        table.row([
            mark.to_owned(),
            words(path),
            shown(path.rtt_ms),
            shown(path.jitter_ms),
            loss,
            path.text.clone(),
            path.addr.clone(),
        ]);
    }
    let open = |addr: &str| report.paths.iter().any(|path| path.addr == addr);
    let dash = || "-".to_owned();
    for candidate in report.candidates.iter().filter(|candidate| !open(&candidate.addr)) {
        let (outcome, addr) = (candidate.outcome.clone(), candidate.addr.clone());
        table.row([String::new(), "candidate".to_owned(), dash(), dash(), dash(), outcome, addr]);
    }
    table.render(terminal.width(), terminal)
}

fn punching(report: &WhyReport, now: Timestamp) -> String {
    let punch = &report.punch;
    let mut text = format!("NAT mapping: here {}, there {}", punch.own_mapping, punch.their_mapping);
    if punch.attempts > 0 {
        text.push_str(&format!("; {} punches", punch.attempts));
    }
    if let Some(last) = punch.last {
        text.push_str(&format!(", the last {}", units::ago(now.unix().saturating_sub(last.unix()))));
    }
    if let Some(next) = punch.next_in_s {
        text.push_str(&format!(", the next in {}", units::duration(next)));
    }
    text
}

fn history(report: &WhyReport, now: Timestamp) -> Vec<String> {
    if report.history.is_empty() {
        return vec!["no change of path in this time".to_owned()];
    }
    let word = |kind: &Option<String>| kind.clone().unwrap_or_else(|| "none".to_owned());
    let line = |switch: &peerup_control::api::WhySwitch| {
        let ago = units::ago(now.unix().saturating_sub(switch.at.unix()));
        format!("{ago:>8}  {} -> {}: {}", word(&switch.from), word(&switch.to), switch.reason)
    };
    report.history.iter().map(line).collect()
}

fn words(path: &WhyPath) -> String {
    let overview = PathOverview {
        class: path.class,
        family: Some(path.family),
        carrier: Some(path.carrier),
        addr: Some(path.addr.clone()),
        relay: path.relay,
        since: None,
    };
    let relayed = path.class != OverviewClass::Direct;
    path::words(Some(&overview), |relay| if relayed { short_id(relay) } else { String::new() })
}

#[cfg(test)]
mod tests {
    use peerup_control::api::{WhyCandidate, WhyPunch, WhySwitch};
    use peerup_types::{CarrierKind, Family};

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix(1_700_000_000 + seconds)
    }

    fn report() -> WhyReport {
        let id = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx".parse().unwrap();
        WhyReport {
            peer_id: id,
            name: Some("home".into()),
            at: at(100),
            reason: Some("the connection closed".into()),
            blocking_reason: Some("symmetric-both".into()),
            blocking_text: Some("symmetric NAT on both sides".into()),
            would_change: Some("a port mapping".into()),
            paths: vec![WhyPath {
                id: 1,
                class: OverviewClass::Relay,
                family: Family::Ipv4,
                carrier: CarrierKind::RelayStream,
                addr: "/ip4/203.0.113.9/tcp/7777".into(),
                relay: Some(id),
                since: at(40),
                chosen: true,
                rtt_ms: Some(61.2),
                jitter_ms: Some(1.0),
                loss_10s: None,
                loss_15m: 0.004,
                rule: "chosen".into(),
                text: "the connection closed".into(),
                would_change: None,
            }],
            candidates: vec![WhyCandidate {
                addr: "/ip4/198.51.100.7/udp/4001/quic-v1".into(),
                tried: Some(at(90)),
                outcome: "no answer".into(),
            }],
            punch: WhyPunch {
                attempts: 3,
                last: Some(at(40)),
                next_in_s: Some(540),
                own_mapping: "address-and-port-dependent".into(),
                their_mapping: "address-and-port-dependent".into(),
            },
            history: vec![WhySwitch {
                at: at(40),
                from: Some("direct ipv4 quic-stream".into()),
                to: Some("relay ipv4 relay-stream".into()),
                reason: "the connection closed".into(),
            }],
            switches_last_minute: 1,
        }
    }

    #[test]
    fn the_page_says_what_is_used_why_not_better_and_how_it_came_about() {
        let page = page(&report(), at(100), &Terminal::new(false));
        assert_eq!(page[0], "home: relay …NSv5bcCx, 61ms, open for 1m: the connection closed");
        assert_eq!(page[1], "not direct: symmetric NAT on both sides");
        assert_eq!(page[2], "would change it: a port mapping");
        let text = page.join("\n");
        assert!(text.contains("candidate"), "{text}");
        assert!(text.contains("3 punches, the last 1m ago, the next in 9m"), "{text}");
        assert!(
            text.ends_with(
                "1m ago  direct ipv4 quic-stream -> relay ipv4 relay-stream: the connection closed"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_peer_without_a_path_has_a_page_too() {
        let empty = WhyReport { paths: vec![], candidates: vec![], history: vec![], ..report() };
        let page = page(&empty, at(100), &Terminal::new(false));
        assert_eq!(page[0], "home: no path");
        assert_eq!(page.last().unwrap(), "no change of path in this time");
    }
}
