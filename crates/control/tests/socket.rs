//! Client and server over a real socket, with a node that answers from memory.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener as StdListener},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use common::{Daemon, bad_code, code, options, own_uids};
use peerup_control::{
    BindError, BindOptions, Client, ClientError, ErrorKind, Runtime, Server, SocketGroup,
    api::{AuthAdd, DownReport, InviteEvent, InviteRequest, JoinRequest, PingRequest},
};
use peerup_types::PeerId;
use tokio::time::timeout;

#[tokio::test]
async fn a_client_reads_what_the_node_says() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    assert_eq!(client.overview().await.unwrap(), daemon.node.overview().await.unwrap());
    assert_eq!(client.auth_list().await.unwrap(), vec![]);
    let report = client.ping(PingRequest { peer: "home".into(), count: 2, interval_ms: 1 }).await.unwrap();
    assert_eq!(report.stats.sent, 2);
    assert_eq!(report.results[1].error, "timed out");
    daemon.stop().await;
}

#[tokio::test]
async fn errors_keep_kind_message_and_hint_across_the_socket() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let error = client.join(JoinRequest { code: "X".into(), name: None }).await.unwrap_err();
    assert_eq!(error, bad_code());
    let error = client.auth_remove(PeerId::random()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    daemon.stop().await;
}

#[tokio::test]
async fn commands_reach_the_node() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    client
        .auth_add(AuthAdd { peer_id: PeerId::random(), comment: None, options: Default::default() })
        .await
        .unwrap();
    client.reload().await.unwrap();
    assert_eq!(client.down().await.unwrap(), DownReport { interface: None, daemon_exits: true });
    client.shutdown().await.unwrap();
    assert_eq!(daemon.node.commands.load(Ordering::SeqCst), 4);
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_without_the_cookie_is_refused() {
    let daemon = Daemon::start().await;
    for header in ["", "Authorization: Bearer \r\n", "Authorization: Bearer 00112233\r\n"] {
        let request = format!("POST /v1/shutdown HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
        let answer = daemon.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(answer.contains(r#""error":"#), "{answer}");
    }
    assert_eq!(daemon.node.commands.load(Ordering::SeqCst), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn the_cookie_of_an_earlier_start_is_refused() {
    let daemon = Daemon::start().await;
    let old = daemon.client().await;
    let dir = daemon.stop().await;
    let daemon = Daemon::start_in(dir, own_uids()).await;
    assert_eq!(old.overview().await.unwrap_err().kind, ErrorKind::NotAuthenticated);
    daemon.stop().await;
}

#[tokio::test]
async fn a_uid_outside_the_list_is_refused_even_with_the_cookie() {
    let daemon = Daemon::start_in(tempfile::tempdir().unwrap(), vec![]).await;
    let client = daemon.client().await;
    let error = client.overview().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotAuthorised);
    assert!(error.hint.is_some());
    daemon.stop().await;
}

#[tokio::test]
async fn members_of_the_group_are_admitted_and_nobody_else() {
    for (member, expected) in [(true, None), (false, Some(ErrorKind::NotAuthorised))] {
        let dir = tempfile::tempdir().unwrap();
        let group = SocketGroup { admits: Arc::new(move |_, _| member) };
        let options = BindOptions { group: Some(group), ..options(dir.path(), vec![]) };
        let daemon = Daemon::start_with(dir, options).await;
        assert_eq!(daemon.client().await.overview().await.err().map(|error| error.kind), expected);
        for (file, mode) in [(daemon.socket(), 0o660), (daemon.cookie(), 0o640)] {
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode, "{file:?}");
        }
        daemon.stop().await;
    }
}

#[tokio::test]
async fn socket_and_cookie_are_private_and_nothing_else_is_left_in_the_directory() {
    let daemon = Daemon::start().await;
    for file in [daemon.socket(), daemon.cookie()] {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    assert_eq!(fs::read_dir(daemon.dir.path()).unwrap().count(), 2);
    let dir = daemon.stop().await;
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn leftovers_of_a_crash_count_as_not_running_and_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("peerup.sock");
    drop(StdListener::bind(&socket).unwrap());
    fs::write(dir.path().join("cookie"), "0".repeat(64)).unwrap();
    let error = Client::connect(&socket, &dir.path().join("cookie")).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");

    let daemon = Daemon::start_in(dir, own_uids()).await;
    assert!(daemon.client().await.overview().await.is_ok());
    daemon.stop().await;
}

#[tokio::test]
async fn an_empty_directory_counts_as_not_running() {
    let dir = tempfile::tempdir().unwrap();
    let error = Client::connect(&dir.path().join("s"), &dir.path().join("c")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning);
}

#[tokio::test]
async fn a_live_daemon_is_never_displaced() {
    let daemon = Daemon::start().await;
    let cookie = fs::read(daemon.cookie()).unwrap();
    let refused = Server::bind(options(daemon.dir.path(), own_uids())).await;
    assert!(matches!(refused.err().unwrap(), BindError::AlreadyRunning { .. }));
    assert_eq!(fs::read(daemon.cookie()).unwrap(), cookie);
    assert!(daemon.client().await.overview().await.is_ok());
    daemon.stop().await;
}

#[tokio::test]
async fn of_two_daemons_that_start_together_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    drop(StdListener::bind(dir.path().join("peerup.sock")).unwrap());
    let (one, two) = tokio::join!(
        Server::bind(options(dir.path(), own_uids())),
        Server::bind(options(dir.path(), own_uids()))
    );
    assert_eq!(one.is_ok() as u8 + two.is_ok() as u8, 1);
}

#[tokio::test]
async fn a_file_that_is_not_a_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("peerup.sock"), "precious").unwrap();
    let refused = Server::bind(options(dir.path(), own_uids())).await;
    assert!(matches!(refused.err().unwrap(), BindError::Socket { .. }));
    assert_eq!(fs::read(dir.path().join("peerup.sock")).unwrap(), b"precious");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let daemon = Daemon::start().await;
    let cookie = fs::read_to_string(daemon.cookie()).unwrap();
    let body = format!(r#"{{"peer":"{}"}}"#, "x".repeat(1 << 20));
    let head = format!(
        "POST /v1/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {cookie}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = daemon.raw(&[head.as_bytes(), body.as_bytes()].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("1 MiB") && answer.contains(r#""kind":"too-large""#), "{answer}");
    // The same without a length that says so beforehand.
    let head = head.replace(&format!("Content-Length: {}", body.len()), "Transfer-Encoding: chunked");
    let chunked = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let answer = daemon.raw(chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    daemon.stop().await;
}

#[tokio::test]
async fn damaged_requests_are_answered_in_json() {
    let daemon = Daemon::start().await;
    let cookie = fs::read_to_string(daemon.cookie()).unwrap();
    let cases = [
        ("POST /v1/ping", "{", "400"),
        ("POST /v1/ping", "", "400"),
        ("POST /v1/overview", "", "405"),
        ("GET /v2/overview", "", "404"),
        ("GET /v1/peers?all=maybe", "", "400"),
        ("DELETE /v1/auth/not-an-id", "", "400"),
    ];
    for (request, body, status) in cases {
        let text = format!(
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {cookie}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = daemon.raw(text.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(answer.contains(r#""error":"#), "{request}: {answer}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn invite_events_arrive_one_by_one_and_end_with_the_last() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let mut events = client.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    let node = daemon.node.invites.lock().unwrap().take().unwrap();
    for event in [code(), InviteEvent::Attempt { reason: "wrong code".into(), left: 4 }, InviteEvent::Expired]
    {
        node.send(event.clone()).await.unwrap();
        assert_eq!(events.recv().await, Some(event));
    }
    assert_eq!(events.recv().await, None);
    daemon.stop().await;
}

#[tokio::test]
async fn hanging_up_withdraws_the_invite() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let mut events = client.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    let node = daemon.node.invites.lock().unwrap().take().unwrap();
    node.send(code()).await.unwrap();
    assert_eq!(events.recv().await, Some(code()));
    drop(events);
    timeout(Duration::from_secs(5), node.closed()).await.expect("the daemon notices within seconds");
    daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_stops_ends_open_invites_with_a_failure() {
    let daemon = Daemon::start().await;
    let client = daemon.client().await;
    let mut events = client.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    drop(daemon.node.invites.lock().unwrap().take());
    assert!(matches!(events.recv().await, Some(InviteEvent::Failed(_))));
    daemon.stop().await;
}
