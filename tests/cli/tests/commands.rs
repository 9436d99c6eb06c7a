//! Commands that ask the daemon, with a scripted node behind it.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    io::{BufRead, BufReader},
    process::{Output, Stdio},
    time::Duration,
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use peerup_cli_tests::{Daemon, Node, code, own_id, peer_id, stderr, stdout};
use peerup_control::api::{Event, Happening, HealthItem, Severity, Timestamp};
use serde_json::Value;

/// With everything that a debug build does not optimise.
const MOST_OF_STATUS: Duration = Duration::from_millis(50);

#[tokio::test]
async fn ip_prints_one_address_per_line() {
    let daemon = Daemon::start(Node::default()).await;
    let cases: [(&[&str], i32, &str); 5] = [
        (&["ip"], 0, "10.64.0.1\n"),
        (&["ip", "home"], 0, "10.64.0.2\n"),
        (&["ip", "-4", "home"], 0, "10.64.0.2\n"),
        (&["ip", "home", "-6"], 1, ""),
        (&["ip", "-4", "-6"], 2, ""),
    ];
    for (arguments, expected, text) in cases {
        let output = daemon.peerup(arguments).await;
        assert_eq!((code(&output), stdout(&output).as_str()), (expected, text), "{arguments:?}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn whois_and_resolve_find_the_peer_behind_an_address() {
    let daemon = Daemon::start(Node::default()).await;
    let output = daemon.peerup(&["whois", "10.64.0.2"]).await;
    let expected = format!("name:       home\npeer ID:    {}\naddresses:  10.64.0.2\n", peer_id());
    assert_eq!((code(&output), stdout(&output)), (0, expected));
    let json = json(&daemon.peerup(&["whois", "10.64.0.2", "--json"]).await);
    assert_eq!((&json["source"], &json["ips"][0]), (&"address".into(), &"10.64.0.2".into()));
    assert_eq!(code(&daemon.peerup(&["whois", "10.64.0.77"]).await), 1);
    // The configuration does not know this one; the daemon does.
    let output = daemon.peerup(&["resolve", "10.64.0.2"]).await;
    assert_eq!((code(&output), stdout(&output)), (0, format!("10.64.0.2 → {}\n", peer_id())));
    daemon.stop().await;
}

#[tokio::test]
async fn events_are_lines_and_a_daemon_that_stops_ends_them_with_4() {
    let at = Timestamp::from_unix(1_700_000_000);
    let up = Event { at, what: Happening::PeerUp { peer: peer_id(), name: Some("home".into()) } };
    let missed = Event { at, what: Happening::Missed { count: 3 } };
    let daemon = Daemon::start(Node { events: vec![up.clone(), missed], ..Node::default() }).await;
    let output = daemon.peerup(&["events"]).await;
    assert_eq!(code(&output), 4);
    let text = stdout(&output);
    assert!(
        text.starts_with("2023-11-14T22:13:20Z  home: up\n") && text.contains("3 events left out"),
        "{text}"
    );
    let lines = stdout(&daemon.peerup(&["events", "--json"]).await);
    assert_eq!(serde_json::from_str::<Event>(lines.lines().next().unwrap()).unwrap(), up);
    daemon.stop().await;
}

#[tokio::test]
async fn wait_returns_when_the_node_is_up_and_a_peer_answers_and_with_7_when_it_does_not() {
    let daemon = Daemon::start(Node::default()).await;
    for arguments in [&["wait"][..], &["wait", "--peer", "home", "--timeout", "10s"]] {
        assert_eq!(code(&daemon.peerup(arguments).await), 0, "{arguments:?}");
    }
    daemon.stop().await;
    let daemon = Daemon::start(Node { answers_pings: false, ..Node::default() }).await;
    let output = daemon.peerup(&["wait", "--peer", "home", "--timeout", "500ms"]).await;
    assert_eq!(code(&output), 7, "{output:?}");
    assert!(stderr(&output).contains("home: not there after 500ms"), "{output:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn ping_until_direct_stops_at_the_first_direct_answer_and_says_3_when_there_is_none() {
    let daemon = Daemon::start(Node { relayed_pings: 2.into(), ..Node::default() }).await;
    let output = daemon.peerup(&["ping", "home", "--until-direct", "-i", "10ms"]).await;
    assert_eq!(code(&output), 0, "{output:?}");
    let text = stdout(&output);
    assert!(text.contains("seq=3") && text.contains("(upgraded)") && text.contains("3 sent"), "{text}");
    daemon.stop().await;
    let daemon = Daemon::start(Node { relayed_pings: 99.into(), ..Node::default() }).await;
    let relayed = daemon.peerup(&["ping", "home", "--until-direct", "-c", "2", "-i", "10ms"]).await;
    assert_eq!(code(&relayed), 3, "{relayed:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn the_daemons_own_commands_answer_as_their_namesakes() {
    let daemon = Daemon::start(Node::default()).await;
    // The original says that this takes durations, and takes milliseconds.
    for interval in ["10", "10ms"] {
        let output = daemon.peerup(&["daemon", "ping", "home", "--interval", interval]).await;
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("4 sent, 4 received"), "{output:?}");
    }
    for command in ["peers", "paths", "status"] {
        let output = daemon.peerup(&["daemon", command]).await;
        assert_eq!(code(&output), 0, "{output:?}");
        assert!(!stdout(&output).is_empty());
        assert!(
            json(&daemon.peerup(&["daemon", command, "--json"]).await).is_object() || command != "status"
        );
    }
    let all = stdout(&daemon.peerup(&["peers", "--all"]).await);
    assert!(all.contains("kubo") && !stdout(&daemon.peerup(&["peers"]).await).contains("kubo"), "{all}");
    assert_eq!(code(&daemon.peerup(&["daemon", "stop"]).await), 0);
    assert_eq!(*daemon.node.calls.lock().unwrap(), ["shutdown"]);
    daemon.stop().await;
}

#[tokio::test]
async fn status_watch_shows_it_again_and_again() {
    let daemon = Daemon::start(Node::default()).await;
    for (arguments, page) in
        [(&["status", "--watch=200ms"][..], "NAME"), (&["status", "--watch=200ms", "--json"], "{")]
    {
        let mut command = daemon.command(arguments);
        let seen = tokio::task::spawn_blocking(move || {
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let pages = lines.map(Result::unwrap).filter(|line| line.starts_with(page)).take(3).count();
            child.kill().unwrap();
            child.wait().unwrap();
            pages
        });
        assert_eq!(seen.await.unwrap(), 3, "{arguments:?}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn auth_add_hands_its_options_to_the_daemon() {
    let daemon = Daemon::start(Node::default()).await;
    let id = peer_id().to_string();
    let add = ["auth", "add", &id, "--expires", "2100-01-31", "--ip", "10.64.0.9", "--comment", "nas"];
    assert_eq!(code(&daemon.peerup(&add).await), 0);
    let expected = format!("add {id} nas expires=2100-01-31T00:00:00Z ip=10.64.0.9");
    assert_eq!(*daemon.node.calls.lock().unwrap(), [expected]);
    assert_eq!(code(&daemon.peerup(&["auth", "add", &id, "--expires", "yesterday"]).await), 2);
    daemon.stop().await;
}

#[tokio::test]
async fn doctor_repeats_what_the_daemon_knows_and_looks_at_a_peer() {
    let item = HealthItem {
        code: "udp-blocked".into(),
        severity: Severity::Error,
        text: "UDP is blocked".into(),
        fix: Some("open it".into()),
    };
    let daemon = Daemon::start(Node { health: vec![item], ..Node::default() }).await;
    let output = daemon.peerup(&["doctor", "home"]).await;
    assert_eq!(code(&output), 1, "{output:?}");
    let text = stdout(&output);
    for line in [
        "ok       the daemon runs",
        "failed   udp-blocked: UDP is blocked\n         hint: open it",
        "failed   home is not in authorized_keys",
        "ok       home answers in 12.5ms over direct v6",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let checks = json(&daemon.peerup(&["doctor", "--json"]).await);
    assert!(checks.as_array().unwrap().iter().any(|check| check["code"] == "firewall"), "{checks}");
    daemon.stop().await;
}

#[tokio::test]
async fn nothing_is_coloured_where_nobody_looks() {
    let daemon = Daemon::start(Node::default()).await;
    for arguments in [&["status"][..], &["peers"], &["doctor"], &["auth", "list"]] {
        let output = daemon.peerup(arguments).await;
        assert!(!stdout(&output).contains('\x1b') && !stderr(&output).contains('\x1b'), "{output:?}");
    }
    assert!(stdout(&daemon.peerup(&["status", "--json"]).await).contains(&own_id().to_string()));
    daemon.stop().await;
}

/// What the command computes, above what any command does (`version`, in the same build on the same machine). Time of the
/// processor, because test machines are busy; a release build takes a millisecond of it.
#[tokio::test]
async fn status_with_fifty_peers_is_quick() {
    let daemon = Daemon::start(Node { more_peers: 49, ..Node::default() }).await;
    let version = cpu_time(&daemon, &["version"]).await;
    let status = cpu_time(&daemon, &["status"]).await;
    let output = daemon.peerup(&["status"]).await;
    assert_eq!(stdout(&output).lines().filter(|line| line.contains("direct v6")).count(), 50);
    println!("status with 50 peers: {status:?}, of which {version:?} is the start of the program");
    assert!(status < version + MOST_OF_STATUS, "{status:?}, {version:?}");
    daemon.stop().await;
}

/// The best of some runs.
async fn cpu_time(daemon: &Daemon, words: &[&str]) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..7 {
        let before = cpu_time_of_children();
        daemon.peerup(words).await;
        best = best.min(cpu_time_of_children() - before);
    }
    best
}

/// Of commands that have ended; this test runs in a process of its own.
fn cpu_time_of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let times = [usage.user_time(), usage.system_time()];
    times.iter().map(|time| Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap())).sum()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}
