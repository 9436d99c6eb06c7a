//! Ten thousand damaged requests: the server answers or hangs up, never stalls, never lets one past the cookie, and
//! serves the next caller as before. The seed is fixed, so a failure comes back.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::{fs, sync::atomic::Ordering, time::Duration};

use common::Daemon;
use futures::{StreamExt, stream};
use peerup_control::Runtime;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{sleep, timeout},
};

const REQUESTS: usize = 10_000;
const SEED: u64 = 0x7065_6572_7570;
/// A healthy server needs a millisecond.
const PATIENCE: Duration = Duration::from_secs(20);
/// Fewer than the server takes.
const AT_ONCE: usize = 32;
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_damaged_requests_are_answered_or_cut_off_and_none_gets_past_the_cookie() {
    let daemon = Daemon::start().await;
    let cookie = fs::read_to_string(daemon.cookie()).unwrap();
    let mut random = StdRng::seed_from_u64(SEED);
    let requests: Vec<Damaged> = (0..REQUESTS).map(|_| Damaged::new(&mut random, &cookie)).collect();
    let (authentic, strange): (Vec<_>, Vec<_>) = requests.into_iter().partition(|request| request.authentic);

    let statuses = send_all(&daemon, strange).await;
    assert!(statuses.iter().flatten().all(|status| *status >= 400), "{statuses:?}");
    assert_eq!(daemon.node.asked.load(Ordering::SeqCst), 0, "a request got past the cookie");
    let refused = statuses.iter().flatten().filter(|status| **status == 401).count();

    let statuses = send_all(&daemon, authentic).await;
    let served = statuses.iter().flatten().filter(|status| **status == 200).count();
    // The generator reaches both sides of the door, or this test shows nothing.
    assert!(refused > 1000 && served > 100, "{refused} refused, {served} served");
    assert!(daemon.node.asked.load(Ordering::SeqCst) > 100);
    assert!(daemon.client().await.overview().await.is_ok());
    daemon.stop().await;
}

/// The status of each answer; `None` where the server only hung up.
async fn send_all(daemon: &Daemon, requests: Vec<Damaged>) -> Vec<Option<u16>> {
    let send = async |request: Damaged| {
        let answer = timeout(PATIENCE, exchange(daemon, &request.bytes)).await;
        let answer = answer.unwrap_or_else(|_| panic!("this one hangs: {}", request.shown()));
        let status = status_of(&answer);
        let text = String::from_utf8_lossy(&answer);
        // What hyper itself refuses, and what answers HEAD, has no body.
        let is_error = status.is_some_and(|status| status >= 400) && !text.ends_with("\r\n\r\n");
        assert!(!is_error || text.contains(r#""error":"#), "{}: {text}", request.shown());
        status
    };
    stream::iter(requests).map(send).buffer_unordered(AT_ONCE).collect().await
}

struct Damaged {
    bytes: Vec<u8>,
    /// Whether the cookie is in it as it should be; damage elsewhere may still keep it from being read.
    authentic: bool,
}

impl Damaged {
    fn new(random: &mut StdRng, cookie: &str) -> Self {
        let credentials = credentials(random, cookie);
        let body = body(random);
        let length = match random.random_range(0..16) {
            0 => format!("Content-Length: {}\r\n", random.random::<u64>()),
            1 => "Transfer-Encoding: chunked\r\n".into(),
            2 => format!("Content-Length: {}\r\nContent-Length: 0\r\n", body.len()),
            3 => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let head = format!(
            "{} {} HTTP/{}\r\nHost: x\r\nConnection: close\r\n{}{credentials}{length}\r\n",
            usually(random, &["GET", "POST"], METHODS),
            target(random),
            usually(random, &["1.1"], &["1.0", "2.0", "0.9", "1.1.1"]),
            usually(random, &[""], EXTRAS),
        );
        let mut bytes = [head.as_bytes(), &body].concat();
        damage(random, &mut bytes);
        let authentic = carries(&bytes, cookie);
        Self { bytes, authentic }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(600)]).into_owned()
    }
}

/// Whether the header is there, whole and with nothing behind the cookie but what HTTP ignores.
fn carries(bytes: &[u8], cookie: &str) -> bool {
    let header = format!("Authorization: Bearer {cookie}");
    let ends = |rest: &[u8]| rest.trim_ascii_start().len() < rest.len() && rest.contains(&b'\n');
    let places = bytes.windows(header.len()).enumerate();
    places
        .filter(|(_, window)| window.eq_ignore_ascii_case(header.as_bytes()))
        .any(|(at, _)| ends(&bytes[at + header.len()..]))
}

const METHODS: &[&str] = &[
    "GET", "GET", "POST", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "G\0T", "",
    "*",
];
const EXTRAS: &[&str] = &[
    "Accept: text/plain\r\n",
    "Accept: \u{1}\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
    "Cookie: a=b\r\n",
    "X: y\r\n folded\r\n",
    "Content-Type: text/html\r\n",
];
const PATHS: &[&str] = &[
    "overview",
    "status",
    "peers",
    "paths",
    "auth",
    "ping",
    "resolve",
    "invite",
    "join",
    "reload",
    "up",
    "down",
    "shutdown",
    "events",
    "config",
    "openapi.json",
    "auth/x",
    "auth/%00",
    "auth/..%2f..",
    "",
    "connect/proxy-1",
];
const QUERIES: &[&str] =
    &["?format=text", "?all=true", "?all=%zz", "?all=maybe&all=1", "?format=text&format=json", "?%00"];

/// One of the good ones four times out of five.
fn usually<'a>(random: &mut StdRng, good: &[&'a str], bad: &[&'a str]) -> &'a str {
    if random.random_ratio(4, 5) { good } else { bad }.choose(random).unwrap()
}

fn target(random: &mut StdRng) -> String {
    let path = PATHS.choose(random).unwrap();
    match random.random_range(0..12) {
        0 => format!("/v1//{path}"),
        1 => format!("/v1/../v1/{path}"),
        2 => format!("http://peerup/v1/{path}"),
        3 => format!("/V1/{path}"),
        4 => format!("/v1/{path}/{}", "a/".repeat(random.random_range(0..4000))),
        5 => format!("/v1/{}", (0..20).map(|_| random.random_range('!'..'\u{7f}')).collect::<String>()),
        _ => format!("/v1/{path}{}", usually(random, &[""], QUERIES)),
    }
}

/// Mostly almost the cookie.
fn credentials(random: &mut StdRng, cookie: &str) -> String {
    let wrong = "0".repeat(cookie.len());
    match random.random_range(0..20) {
        0 => String::new(),
        1 => format!("Authorization: Bearer {wrong}\r\n"),
        2 => format!("Authorization: Bearer {}\r\n", &cookie[..cookie.len() - 1]),
        3 => format!("Authorization: Bearer {cookie}0\r\n"),
        4 => format!("Authorization: bearer {cookie}\r\n"),
        5 => format!("Authorization: Basic {cookie}\r\n"),
        6 => format!("Authorization: {cookie}\r\n"),
        7 => format!("Authorization: Bearer  {cookie}\r\n"),
        8 => format!("X-Authorization: {cookie}\r\n"),
        9 => format!("Proxy-Authorization: Bearer {wrong}\r\nAuthorization:\r\n"),
        _ => format!("Authorization: Bearer {cookie}\r\n"),
    }
}

fn body(random: &mut StdRng) -> Vec<u8> {
    let id = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";
    match random.random_range(0..10) {
        0 => vec![],
        1 => br#"{"peer":"home","count":2,"interval_ms":1}"#.to_vec(),
        2 => br#"{"peer":"home","count":-1}"#.to_vec(),
        3 => format!(r#"{{"peer_id":"{id}","options":{{"expires":"\n"}}}}"#).into_bytes(),
        4 => "[".repeat(random.random_range(0..20_000)).into_bytes(),
        5 => br#"{"peer":1e999}"#.to_vec(),
        6 => b"{\"name\":\"\\ud800\"}".to_vec(),
        7 => b"ffffffffffffffff\r\nx".to_vec(),
        8 => b"5\r\n{\"a\":\r\n0\r\n\r\n".to_vec(),
        _ => {
            let mut noise = vec![0; random.random_range(0..300)];
            random.fill_bytes(&mut noise);
            noise
        }
    }
}

/// Often nothing, else bits, cuts and insertions.
fn damage(random: &mut StdRng, bytes: &mut Vec<u8>) {
    match random.random_range(0..6) {
        0 => {
            for _ in 0..random.random_range(1..8) {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
        }
        1 => bytes.truncate(random.random_range(0..bytes.len())),
        2 => {
            let at = random.random_range(0..bytes.len());
            let noise: Vec<u8> = (0..random.random_range(1..50)).map(|_| random.random()).collect();
            bytes.splice(at..at, noise);
        }
        _ => {}
    }
}

/// Everything the server says until it hangs up. A server that waits for the rest of the request is told that there
/// is none.
async fn exchange(daemon: &Daemon, request: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = UnixStream::connect(daemon.socket()).await.unwrap().into_split();
    let write = async {
        // The server may hang up before it has read all of it.
        let _ = writer.write_all(request).await;
        sleep(PAUSE).await;
        let _ = writer.shutdown().await;
    };
    let mut answer = Vec::new();
    let _ = tokio::join!(write, reader.read_to_end(&mut answer));
    answer
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}
