//! docs/api.md, the OpenAPI description and the router know the same endpoints, and every `curl` line works.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use peerup_cli_tests::{Daemon, Node};
use peerup_control::{
    Server,
    api::{Event, Happening, InviteEvent, Timestamp},
};
use serde_json::Value;

#[test]
fn documents_and_description_know_the_same_endpoints() {
    let documented: BTreeSet<String> = sections().into_iter().map(|section| section.endpoint).collect();
    assert_eq!(documented, described());
}

#[tokio::test]
async fn every_curl_line_of_the_documents_works() {
    let daemon = Daemon::start(scripted()).await;
    // What it opens is no HTTP, so curl is of no use there.
    for section in sections().into_iter().filter(|section| section.endpoint != "POST /v1/open") {
        assert!(!section.curl.is_empty(), "{} has no curl line", section.endpoint);
        for line in section.curl {
            let (status, body) = curl(&daemon, &line).await;
            assert_eq!(status, "200", "{line}: {body}");
            let text = line.contains("format=text") || line.contains("text/plain");
            let stream = line.contains("curl -N");
            let parsed: Vec<Value> = match text {
                true => vec![],
                false if stream => body.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
                false => vec![serde_json::from_str(&body).unwrap()],
            };
            assert_eq!(text, parsed.is_empty(), "{line}: {body}");
            let is_envelope = |value: &Value| value.get("data").is_some() || value.get("openapi").is_some();
            assert!(stream || parsed.iter().all(is_envelope), "{line}: {body}");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_router_has_what_the_description_says_and_nothing_else() {
    let daemon = Daemon::start(scripted()).await;
    let get =
        |path: &str| format!(r#"curl --unix-socket peerup.sock -H @<(auth) -X PATCH http://peerup{path}"#);
    for endpoint in described() {
        let path = endpoint
            .split(' ')
            .nth(1)
            .unwrap()
            .replace("{peer_id}", "x")
            .replace("{id}", "x")
            .replace("{name}", "x")
            .replace("{peer}", "x");
        assert_eq!(curl(&daemon, &get(&path)).await.0, "405", "{endpoint} is not in the router");
    }
    assert_eq!(curl(&daemon, &get("/v1/nothing")).await.0, "404");
    daemon.stop().await;
}

#[tokio::test]
async fn the_description_is_what_the_daemon_serves_and_all_it_refers_to_is_there() {
    let daemon = Daemon::start(scripted()).await;
    let line = "curl --unix-socket peerup.sock -H @<(auth) http://peerup/v1/openapi.json";
    let served: Value = serde_json::from_str(&curl(&daemon, line).await.1).unwrap();
    assert_eq!(served, Server::description());
    let text = served.to_string();
    for reference in text.split(r##""#/components/schemas/"##).skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(served["components"]["schemas"].get(name).is_some(), "{name} is not described");
    }
    daemon.stop().await;
}

struct Section {
    /// `GET /v1/status`
    endpoint: String,
    curl: Vec<String>,
}

fn sections() -> Vec<Section> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let text = fs::read_to_string(document).unwrap();
    let section = |text: &str| Section {
        endpoint: text.lines().next().unwrap().to_owned(),
        curl: text.lines().filter(|line| line.starts_with("curl ")).map(str::to_owned).collect(),
    };
    text.split("\n### ").skip(1).map(section).collect()
}

fn described() -> BTreeSet<String> {
    let description = Server::description();
    let paths = description["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, operations)| {
        let methods = operations.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    operations.collect()
}

/// Status and body.
async fn curl(daemon: &Daemon, line: &str) -> (String, String) {
    let script = format!(
        "auth() {{ sed 's/^/Authorization: Bearer /' .daemon-cookie; }}\n{line} -s -w '\\n%{{http_code}}'"
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(daemon.dir.path()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{line}: {text}"));
    (status.to_owned(), body.to_owned())
}

fn scripted() -> Node {
    let at = Timestamp::from_unix(1_700_000_000);
    let what = Happening::HealthCleared { code: "udp-blocked".into() };
    Node {
        invite: vec![InviteEvent::Code { code: "AEBA-GBAF".into(), expires_at: at }, InviteEvent::Expired],
        events: vec![Event { at, what }],
        ..Node::default()
    }
}
