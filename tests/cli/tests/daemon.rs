//! The real binary against a real socket, with a node behind it that answers from a script.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::process::Stdio;

use peerup_cli_tests::{Daemon, Node, code, peer_id, stderr, stdout};
use peerup_control::api::{HealthItem, InviteEvent, Severity, Timestamp};
use serde_json::Value;

#[tokio::test]
async fn status_shows_the_node_and_exits_0() {
    let daemon = Daemon::start(Node::default()).await;
    let output = daemon.peerup(&["status"]).await;
    assert_eq!(code(&output), 0);
    let page = stdout(&output);
    assert!(page.contains("10.64.0.0/16 on peerup0"), "{page}");
    assert!(page.lines().any(|line| line.starts_with("home") && line.contains("direct v6")), "{page}");
    let json: Value = serde_json::from_str(&stdout(&daemon.peerup(&["status", "--json"]).await)).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["peers"][0]["path"]["class"], "direct");
    daemon.stop().await;
}

#[tokio::test]
async fn a_warning_makes_status_exit_3_and_a_note_does_not() {
    for (severity, expected) in [(Severity::Info, 0), (Severity::Warning, 3), (Severity::Error, 3)] {
        let item =
            HealthItem { code: "udp-blocked".into(), severity, text: "UDP is blocked".into(), fix: None };
        let daemon = Daemon::start(Node { health: vec![item], ..Node::default() }).await;
        let output = daemon.peerup(&["status"]).await;
        assert_eq!(code(&output), expected);
        assert!(stdout(&output).contains("udp-blocked - UDP is blocked"));
        daemon.stop().await;
    }
}

#[tokio::test]
async fn status_of_one_peer_is_found_by_name_and_an_unknown_one_is_an_error() {
    let daemon = Daemon::start(Node::default()).await;
    assert!(stdout(&daemon.peerup(&["status", "home"]).await).contains(&peer_id().to_string()));
    let unknown = daemon.peerup(&["status", "nobody"]).await;
    assert_eq!(code(&unknown), 1);
    assert!(stderr(&unknown).contains("hint:"));
    daemon.stop().await;
}

#[tokio::test]
async fn ping_prints_every_answer_and_fails_on_total_loss() {
    let daemon = Daemon::start(Node::default()).await;
    let output = daemon.peerup(&["ping", "home", "-c", "2", "-i", "10ms"]).await;
    assert_eq!(code(&output), 0);
    let text = stdout(&output);
    assert!(text.contains("seq=2 rtt=12.5ms path=[DIRECT] via direct v6"), "{text}");
    assert!(text.contains("2 sent, 2 received, 0.0% loss"), "{text}");
    let json = stdout(&daemon.peerup(&["ping", "home", "-c", "2", "-i", "10ms", "--json"]).await);
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["seq"], &lines[2]["sent"]), (3, &2.into(), &2.into()));
    daemon.stop().await;

    let daemon = Daemon::start(Node { answers_pings: false, ..Node::default() }).await;
    let output = daemon.peerup(&["ping", "home", "-c", "1"]).await;
    assert_eq!(code(&output), 1);
    assert!(stdout(&output).contains("seq=1 error=timed out"));
    daemon.stop().await;
}

#[tokio::test]
async fn up_with_a_daemon_says_so_and_exits_0() {
    let daemon = Daemon::start(Node::default()).await;
    let output = daemon.peerup(&["up"]).await;
    assert_eq!(code(&output), 0);
    let text = stdout(&output);
    assert!(text.contains("already running") && text.contains("10.64.0.1"), "{text}");
    daemon.stop().await;
}

#[tokio::test]
async fn down_says_which_interface_went() {
    let daemon = Daemon::start(Node::default()).await;
    let output = daemon.peerup(&["down"]).await;
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("peerup0 is down"));
    daemon.stop().await;
}

#[tokio::test]
async fn auth_goes_through_the_daemon() {
    let daemon = Daemon::start(Node::default()).await;
    let id = peer_id().to_string();
    assert_eq!(code(&daemon.peerup(&["auth", "add", &id, "--comment", "nas"]).await), 0);
    assert_eq!(code(&daemon.peerup(&["auth", "remove", &id]).await), 0);
    assert_eq!(*daemon.node.calls.lock().unwrap(), [format!("add {id} nas"), format!("remove {id}")]);
    assert!(!daemon.dir.path().join("authorized_keys").exists());
    daemon.stop().await;
}

#[tokio::test]
async fn a_script_reads_nothing_but_the_code_from_invite() {
    let joined = InviteEvent::Joined {
        peer_id: peer_id(),
        name: "home".into(),
        address: Some("10.64.0.2".parse().unwrap()),
    };
    let failed = InviteEvent::Attempt { reason: "wrong code".into(), left: 4 };
    let warning =
        InviteEvent::Warning { text: "the relay is shy".into(), hint: Some("ask its owner".into()) };
    let invite = vec![code_event(), failed, warning, joined];
    let daemon = Daemon::start(Node { invite, ..Node::default() }).await;
    let output = daemon.peerup(&["invite", "--non-interactive"]).await;
    assert!(stderr(&output).contains("warning: the relay is shy\nhint: ask its owner\n"));
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "AEBA-GBAF\n"));
    assert!(stderr(&output).contains("home has joined at 10.64.0.2"));
    assert!(stderr(&output).contains("every port that is open"));
    let output = daemon.peerup(&["invite"]).await;
    assert!(stdout(&output).contains("peerup join AEBA-GBAF"));
    assert!(stdout(&output).contains('█'), "no QR code");
    daemon.stop().await;
}

#[tokio::test]
async fn an_invite_that_ends_badly_has_its_own_exit_code() {
    for (last, expected) in [(InviteEvent::Expired, 7), (InviteEvent::Burned, 6)] {
        let daemon = Daemon::start(Node { invite: vec![code_event(), last], ..Node::default() }).await;
        let output = daemon.peerup(&["invite", "--non-interactive"]).await;
        assert_eq!(code(&output), expected);
        assert!(stderr(&output).contains("the code is void"));
        daemon.stop().await;
    }
}

#[tokio::test]
async fn output_into_a_closed_pipe_is_no_error() {
    let daemon = Daemon::start(Node::default()).await;
    let mut command = daemon.command(&["status"]);
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    daemon.stop().await;
}

fn code_event() -> InviteEvent {
    InviteEvent::Code { code: "AEBA-GBAF".into(), expires_at: Timestamp::from_unix(4_000_000_000) }
}
