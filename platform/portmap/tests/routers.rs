//! Small routers on loopback, one address each, that speak one protocol.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as the tests do")]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    sync::{Arc, Mutex},
    time::Duration,
};

use peerup_portmap::{Gateway, MapError, Options, PortMapper, Ports, Protocol, State, acquire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
    time::timeout,
};

const OUTSIDE: [u8; 4] = [203, 0, 113, 9];
const PORT: u16 = 25000;
const SOON: Duration = Duration::from_secs(10);

/// Open mappings: (udp, inside port) → outside port.
type Table = Arc<Mutex<BTreeMap<(bool, u16), u16>>>;

/// The nonces of the mappings of the PCP router, by inside port.
static NONCES: Mutex<BTreeMap<(bool, u16), Vec<u8>>> = Mutex::new(BTreeMap::new());

struct Router {
    gateway: Gateway,
    table: Table,
    ssdp: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Router {
    fn at(host: u8) -> Self {
        let address = Ipv4Addr::new(127, 77, 5, host);
        let gateway = Gateway { address, local: Ipv4Addr::LOCALHOST };
        Self { gateway, table: Table::default(), ssdp: SocketAddr::from((address, 9)), tasks: Vec::new() }
    }

    /// A router on port 5351 that answers with `answer`.
    async fn speaking(host: u8, answer: fn(&[u8], &Table) -> Option<Vec<u8>>) -> Self {
        let mut router = Self::at(host);
        let socket = UdpSocket::bind((router.gateway.address, crab_nat::GATEWAY_PORT)).await.unwrap();
        let table = router.table.clone();
        router.tasks.push(tokio::spawn(async move {
            let mut buffer = [0; 1100];
            loop {
                let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
                if let Some(reply) = answer(&buffer[..len], &table) {
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        }));
        router
    }

    /// A UPnP device: a search answered by unicast, and three HTTP exchanges.
    async fn upnp(host: u8) -> Self {
        let mut router = Self::at(host);
        let http = TcpListener::bind((router.gateway.address, 0)).await.unwrap();
        let ssdp = UdpSocket::bind((router.gateway.address, 0)).await.unwrap();
        router.ssdp = ssdp.local_addr().unwrap();
        let location = http.local_addr().unwrap();
        router.tasks.push(tokio::spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                let (_, from) = ssdp.recv_from(&mut buffer).await.unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: http://{location}/root.xml\r\n\r\n");
                ssdp.send_to(answer.as_bytes(), from).await.unwrap();
            }
        }));
        let table = router.table.clone();
        router.tasks.push(tokio::spawn(async move {
            loop {
                let (mut stream, _) = http.accept().await.unwrap();
                let table = table.clone();
                tokio::spawn(async move {
                    let request = read_request(&mut stream).await;
                    let body = upnp_answer(&request, &table);
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    stream.write_all((head + &body).as_bytes()).await.unwrap();
                });
            }
        }));
        router
    }

    fn options(&self) -> Options {
        Options { ssdp: self.ssdp }
    }

    fn open(&self) -> usize {
        self.table.lock().unwrap().len()
    }
}

fn ports() -> Ports {
    Ports { udp: NonZeroU16::new(PORT), tcp: NonZeroU16::new(PORT) }
}

/// Maps or unmaps, and says which port is outside.
fn book(table: &Table, udp: bool, inside: u16, wanted: u16, lifetime: u32) -> u16 {
    let mut table = table.lock().unwrap();
    if lifetime == 0 {
        table.remove(&(udp, inside));
        return 0;
    }
    let taken = table.values().any(|outside| *outside == wanted) && !table.contains_key(&(udp, inside));
    let outside = if taken { wanted + 1000 } else { wanted };
    *table.entry((udp, inside)).or_insert(outside)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// RFC 6886 §3. A PCP request is answered with "unsupported version", as its appendix asks.
fn nat_pmp(request: &[u8], table: &Table) -> Option<Vec<u8>> {
    let epoch = 77u32.to_be_bytes();
    if request[0] != 0 {
        return Some([&[0, 128 | request[1], 0, 1][..], &epoch].concat());
    }
    match request[1] {
        0 => Some([&[0, 128, 0, 0][..], &epoch, &OUTSIDE].concat()),
        op @ (1 | 2) => {
            let (inside, wanted, lifetime) = (u16_at(request, 4), u16_at(request, 6), u32_at(request, 8));
            let outside = book(table, op == 1, inside, wanted, lifetime);
            let ports = [inside.to_be_bytes(), outside.to_be_bytes()].concat();
            Some([&[0, 128 | op, 0, 0][..], &epoch, &ports, &lifetime.to_be_bytes()].concat())
        }
        _ => None,
    }
}

/// RFC 6887 §11: MAP with a nonce.
fn pcp(request: &[u8], table: &Table) -> Option<Vec<u8>> {
    if (request[0], request[1]) != (2, 1) {
        return None;
    }
    let lifetime = u32_at(request, 4);
    let body = &request[24..];
    let (udp, inside, wanted) = (body[12] == 17, u16_at(body, 16), u16_at(body, 18));
    let known = NONCES.lock().unwrap().entry((udp, inside)).or_insert_with(|| body[..12].to_vec()).clone();
    if known != body[..12] {
        // RFC 6887 §11.3: NOT_AUTHORIZED.
        return Some([&[2, 129, 0, 2][..], &[0; 20], body].concat());
    }
    let outside = book(table, udp, inside, wanted, lifetime);
    if lifetime == 0 {
        NONCES.lock().unwrap().remove(&(udp, inside));
    }
    let mut reply = vec![2, 129, 0, 0];
    reply.extend(lifetime.to_be_bytes());
    reply.extend(77u32.to_be_bytes());
    reply.extend([0; 12]);
    reply.extend(&body[..18]);
    reply.extend(outside.to_be_bytes());
    reply.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    reply.extend(OUTSIDE);
    Some(reply)
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        if read == 0 || body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

fn upnp_answer(request: &str, table: &Table) -> String {
    let value = |tag: &str| {
        let (_, rest) = request.split_once(&format!("<{tag}>"))?;
        rest.split_once('<').map(|(value, _)| value.to_owned())
    };
    let number = |tag: &str| value(tag).unwrap().parse::<u32>().unwrap();
    let envelope = |action: &str, body: &str| {
        format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
             <u:{action}Response xmlns:u=\"{SERVICE}\">{body}</u:{action}Response></s:Body></s:Envelope>"
        )
    };
    if request.starts_with("GET /root.xml") {
        return format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device><deviceType>\
             urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><serviceList><service><serviceType>\
             {SERVICE}</serviceType><controlURL>/control</controlURL><SCPDURL>/scpd.xml</SCPDURL></service>\
             </serviceList></device></root>"
        );
    }
    if request.starts_with("GET /scpd.xml") {
        let argument =
            |name: &str| format!("<argument><name>{name}</name><direction>in</direction></argument>");
        let list = |names: &[&str]| names.iter().map(|name| argument(name)).collect::<String>();
        let map = list(&[
            "NewRemoteHost",
            "NewExternalPort",
            "NewProtocol",
            "NewInternalPort",
            "NewInternalClient",
            "NewEnabled",
            "NewPortMappingDescription",
            "NewLeaseDuration",
        ]);
        let unmap = list(&["NewRemoteHost", "NewExternalPort", "NewProtocol"]);
        return format!(
            "<?xml version=\"1.0\"?><scpd xmlns=\"urn:schemas-upnp-org:service-1-0\"><actionList>\
             <action><name>AddPortMapping</name><argumentList>{map}</argumentList></action>\
             <action><name>DeletePortMapping</name><argumentList>{unmap}</argumentList></action>\
             </actionList></scpd>"
        );
    }
    if request.contains("GetExternalIPAddress") {
        let address = Ipv4Addr::from(OUTSIDE);
        return envelope(
            "GetExternalIPAddress",
            &format!("<NewExternalIPAddress>{address}</NewExternalIPAddress>"),
        );
    }
    let udp = value("NewProtocol").unwrap() == "UDP";
    let outside = number("NewExternalPort") as u16;
    if request.contains("DeletePortMapping") {
        table.lock().unwrap().retain(|(of_udp, _), port| (*of_udp, *port) != (udp, outside));
        return envelope("DeletePortMapping", "");
    }
    assert_eq!(value("NewInternalClient").unwrap(), "127.0.0.1");
    table.lock().unwrap().insert((udp, number("NewInternalPort") as u16), outside);
    envelope("AddPortMapping", "")
}

async fn maps_and_removes(router: Router, protocol: Protocol) {
    let mut mapper = PortMapper::start(ports(), Some(router.gateway), router.options());
    let state = timeout(SOON, mapper.changed()).await.unwrap();
    let outside = Some(format!("203.0.113.9:{PORT}").parse().unwrap());
    let State::Mapped { protocol: by, udp, lifetime, .. } = state else { panic!("{state:?}") };
    assert_eq!((by, udp, lifetime), (protocol, outside, Duration::from_secs(3600)));
    assert_eq!(router.open(), 2, "UDP and TCP");
    mapper.close().await;
    assert_eq!(router.open(), 0, "removed at the end");
}

#[tokio::test]
async fn a_router_with_pcp_forwards_and_takes_back() {
    maps_and_removes(Router::speaking(1, pcp).await, Protocol::Pcp).await;
}

#[tokio::test]
async fn a_router_with_nat_pmp_only_is_asked_by_that() {
    maps_and_removes(Router::speaking(2, nat_pmp).await, Protocol::NatPmp).await;
}

#[tokio::test]
async fn a_router_with_upnp_only_is_found_by_a_search() {
    maps_and_removes(Router::upnp(3).await, Protocol::Upnp).await;
}

#[tokio::test]
async fn a_device_that_is_not_the_gateway_is_not_believed() {
    let router = Router::upnp(4).await;
    let gateway = Gateway { address: Ipv4Addr::new(127, 77, 5, 44), ..router.gateway };
    acquire(gateway, ports(), router.options()).await.unwrap_err();
    assert_eq!(router.open(), 0);
}

#[tokio::test]
async fn another_network_is_asked_anew_and_none_is_told() {
    let (first, second) = (Router::speaking(5, nat_pmp).await, Router::speaking(6, pcp).await);
    let mut mapper = PortMapper::start(ports(), Some(first.gateway), first.options());
    let mapped_by =
        |state: &State| matches!(state, State::Mapped { protocol, .. } if *protocol == Protocol::NatPmp);
    assert!(mapped_by(&timeout(SOON, mapper.changed()).await.unwrap()));
    mapper.set_gateway(Some(second.gateway));
    let state = timeout(SOON, mapper.changed()).await.unwrap();
    assert!(matches!(state, State::Mapped { protocol: Protocol::Pcp, .. }), "{state:?}");
    assert_eq!(second.open(), 2);
    mapper.set_gateway(None);
    let state = timeout(SOON, mapper.changed()).await.unwrap();
    assert!(matches!(state, State::Unavailable { .. }), "{state:?}");
    mapper.close().await;
}

#[tokio::test]
async fn a_lease_of_pcp_is_renewed_with_its_nonce_and_a_stranger_gets_none() {
    let router = Router::speaking(8, pcp).await;
    let lease = acquire(router.gateway, ports(), router.options()).await.unwrap();
    let MapError::Refused { pcp, .. } = acquire(router.gateway, ports(), router.options()).await.unwrap_err();
    assert!(pcp.to_lowercase().contains("authorized"), "{pcp}");
    let lease = lease.renew(router.gateway, ports(), router.options()).await.unwrap();
    assert_eq!((lease.protocol, lease.udp.map(|at| at.port())), (Protocol::Pcp, Some(PORT)));
    lease.release().await;
    assert_eq!(router.open(), 0);
}

#[tokio::test]
async fn a_silent_router_is_given_up_on_in_seconds_with_all_the_reasons() {
    let router = Router::at(7);
    let begun = tokio::time::Instant::now();
    let MapError::Refused { pcp, natpmp, upnp, .. } =
        acquire(router.gateway, ports(), router.options()).await.unwrap_err();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert!(!pcp.is_empty() && !natpmp.is_empty() && !upnp.is_empty());
}
