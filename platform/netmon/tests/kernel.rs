//! What a real kernel says about a network that changes, and about one that does not.
#![cfg(target_os = "linux")]

#[path = "../../tun/tests/namespace/mod.rs"]
mod namespace;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use namespace::{inside, run};
use peerup_netcfg::{HostNetwork, Overlay, ROUTE_PROTOCOL};
use peerup_netmon::{MonitorOptions, NetMonitor, NetworkChange};
use peerup_tun::TunDevice;
use peerup_types::OverlayAddrs;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

/// A change has to be told within this, on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longer than the longest settling: what has not been told by then is not told.
const SILENCE: Duration = Duration::from_millis(1200);

#[test]
fn an_address_that_comes_and_goes_is_told() {
    on_a_host("an_address_that_comes_and_goes_is_told", async |monitor| {
        run("ip addr add 10.9.8.7/24 dev eth0");
        assert_eq!(next(monitor).await, added(&["10.9.8.7"]));
        run("ip -6 addr add 2001:db8::5/64 dev eth0 nodad");
        assert_eq!(next(monitor).await, added(&["2001:db8::5"]));
        run("ip addr del 10.9.8.7/24 dev eth0 && ip -6 addr del 2001:db8::5/64 dev eth0");
        assert_eq!(next(monitor).await, removed(&["10.9.8.7", "2001:db8::5"]));
    });
}

#[test]
fn a_change_is_told_soon_enough_for_roaming() {
    on_a_host("a_change_is_told_soon_enough_for_roaming", async |monitor| {
        let began = Instant::now();
        run("ip addr add 10.9.8.7/24 dev eth0");
        next(monitor).await;
        let took = began.elapsed();
        assert!(took < Duration::from_millis(1500), "{took:?}");
    });
}

#[test]
fn link_local_and_loopback_addresses_are_not_told() {
    on_a_host("link_local_and_loopback_addresses_are_not_told", async |monitor| {
        run("ip addr add 169.254.7.7/16 dev eth0 && ip -6 addr add fe80::7/64 dev eth0 nodad");
        run("ip link set lo up && ip addr add 127.0.0.9/8 dev lo");
        assert_silent(monitor).await;
    });
}

#[test]
fn a_link_that_goes_down_takes_its_addresses_and_route_and_brings_them_back() {
    let name = "a_link_that_goes_down_takes_its_addresses_and_route_and_brings_them_back";
    on_a_host(name, async |monitor| {
        run("ip link set isp down");
        let change = next(monitor).await;
        assert_eq!(change.addresses_removed, ips(&["192.168.7.2"]), "{change:?}");
        assert!(change.links_changed && change.default_route_changed, "{change:?}");
        run("ip link set isp up");
        let change = next(monitor).await;
        assert_eq!(change.addresses_added, ips(&["192.168.7.2"]), "{change:?}");
        assert!(change.links_changed && change.default_route_changed, "{change:?}");
    });
}

#[test]
fn an_interrupted_carrier_is_told_although_nothing_else_differs() {
    on_a_host("an_interrupted_carrier_is_told_although_nothing_else_differs", async |monitor| {
        run("ip link set isp down && ip link set isp up");
        let mut change = next(monitor).await;
        if !change.addresses_removed.is_empty() {
            change = next(monitor).await;
        }
        assert!(change.links_changed, "{change:?}");
    });
}

#[test]
fn another_default_route_is_told() {
    on_a_host("another_default_route_is_told", async |monitor| {
        let change = NetworkChange { default_route_changed: true, ..NetworkChange::default() };
        run("ip route replace default via 192.168.7.254");
        assert_eq!(next(monitor).await, change);
        run("ip route del default");
        assert_eq!(next(monitor).await, change);
        run("ip route add 128.0.0.0/1 via 192.168.7.1");
        assert_eq!(next(monitor).await, change);
        run("ip -6 addr add 2001:db8::2/64 dev eth0 nodad");
        assert_eq!(next(monitor).await, added(&["2001:db8::2"]));
        run("ip -6 route add default via 2001:db8::1");
        assert_eq!(next(monitor).await, change);
        run("ip route add default nexthop via 192.168.7.1 nexthop via 192.168.7.3");
        assert_eq!(next(monitor).await, change);
    });
}

#[test]
fn other_routes_are_not_told() {
    on_a_host("other_routes_are_not_told", async |monitor| {
        run("ip route add 10.1.0.0/16 via 192.168.7.1 && ip route add 10.2.0.1 dev eth0");
        run("ip route add default via 192.168.7.9 table 99");
        run("ip route add default via 192.168.7.8 metric 7 proto 112");
        assert_silent(monitor).await;
    });
}

#[test]
fn our_own_node_that_comes_and_goes_is_not_told() {
    on_a_host("our_own_node_that_comes_and_goes_is_not_told", async |monitor| {
        let state = TempDir::new().unwrap();
        let tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = HostNetwork::open(state.path().join("network.json")).await.unwrap();
        network.configure(&overlay()).await.unwrap();
        network.set_peers(&ips(&["10.64.0.2", "10.64.0.3", "fd12::2"])).await.unwrap();
        assert_silent(monitor).await;
        network.teardown().await.unwrap();
        drop(tun);
        assert_silent(monitor).await;
    });
}

#[test]
fn the_interface_of_another_vpn_is_told() {
    on_a_host("the_interface_of_another_vpn_is_told", async |monitor| {
        let tun = TunDevice::create("other0", 1280).unwrap();
        run("ip link set other0 up && ip addr add 10.77.0.1/24 dev other0");
        let change = next(monitor).await;
        assert_eq!(change, NetworkChange { links_changed: true, ..added(&["10.77.0.1"]) });
        drop(tun);
        let change = next(monitor).await;
        assert_eq!(change, NetworkChange { links_changed: true, ..removed(&["10.77.0.1"]) });
    });
}

#[test]
fn a_look_tells_tunnels_from_links_and_finds_the_router() {
    on_a_host("a_look_tells_tunnels_from_links_and_finds_the_router", async |_| {
        let _tun = TunDevice::create("other0", 1280).unwrap();
        run("ip link set other0 up && ip addr add 100.100.0.1/24 dev other0");
        let view = peerup_netmon::look().await.unwrap();
        let router = view.gateway.map(|gateway| (gateway.address.to_string(), gateway.local.to_string()));
        assert_eq!(router, Some(("192.168.7.1".into(), "192.168.7.2".into())));
        let of = |name: &str| view.addresses.iter().find(|address| address.interface == name).unwrap();
        assert!(!of("eth0").tunnel && of("other0").tunnel, "{view:?}");
        run("ip route replace default dev other0");
        let view = peerup_netmon::look().await.unwrap();
        assert_eq!((view.gateway, view.default_route), (None, true));
    });
}

#[test]
fn a_burst_collapses_into_one_change() {
    on_a_host("a_burst_collapses_into_one_change", async |monitor| {
        run("for n in 1 2 3 4 5 6 7 8 9; do echo addr add 10.9.$n.1/24 dev eth0; done | ip -batch -");
        run("ip route replace default via 192.168.7.254");
        let change = next(monitor).await;
        assert_eq!(change.addresses_added.len(), 9, "{change:?}");
        assert!(change.default_route_changed && !change.links_changed, "{change:?}");
        assert_silent(monitor).await;
    });
}

#[test]
fn what_comes_and_goes_within_a_burst_is_not_told() {
    on_a_host("what_comes_and_goes_within_a_burst_is_not_told", async |monitor| {
        run("printf 'addr %s 10.9.8.7/24 dev eth0\\n' add del add del | ip -batch -");
        assert_silent(monitor).await;
    });
}

#[test]
fn nothing_is_told_when_nothing_happens() {
    on_a_host("nothing_is_told_when_nothing_happens", async |monitor| assert_silent(monitor).await);
}

#[test]
fn a_caller_who_keeps_giving_up_loses_no_change() {
    on_a_host("a_caller_who_keeps_giving_up_loses_no_change", async |monitor| {
        run("ip addr add 10.9.8.7/24 dev eth0");
        let began = Instant::now();
        let change = loop {
            tokio::select! {
                biased;
                change = monitor.changed() => break change,
                () = tokio::task::yield_now() => assert!(began.elapsed() < DEADLINE, "nothing was told"),
            }
        };
        assert_eq!(change, added(&["10.9.8.7"]));
    });
}

#[test]
fn what_happened_while_nobody_asked_is_told_as_one_difference() {
    on_a_host("what_happened_while_nobody_asked_is_told_as_one_difference", async |monitor| {
        run("ip addr add 10.9.8.7/24 dev eth0 && ip addr add 10.9.8.8/24 dev eth0");
        tokio::time::sleep(SILENCE).await;
        run("ip addr del 10.9.8.8/24 dev eth0");
        assert_eq!(next(monitor).await, added(&["10.9.8.7"]));
        assert_silent(monitor).await;
    });
}

#[test]
fn a_socket_that_overruns_loses_no_change() {
    on_a_host("a_socket_that_overruns_loses_no_change", async |monitor| {
        // More notices than any socket buffer holds, so that the last one is not among those that are heard.
        run(
            "for n in $(seq 3000); do echo addr add 10.9.8.7/24 dev eth0; echo addr del 10.9.8.7/24 dev eth0; \
             done | ip -batch - && ip addr add 10.9.8.9/24 dev eth0",
        );
        assert_eq!(next(monitor).await, added(&["10.9.8.9"]));
        assert_silent(monitor).await;
    });
}

#[test]
fn no_privilege_is_needed() {
    on_a_host("no_privilege_is_needed", async |_| {
        caps::clear(None, caps::CapSet::Effective).unwrap();
        let mut monitor = NetMonitor::open(MonitorOptions::default()).await.unwrap();
        let permitted = caps::read(None, caps::CapSet::Permitted).unwrap();
        caps::set(None, caps::CapSet::Effective, &permitted).unwrap();
        run("ip addr add 10.9.8.7/24 dev eth0");
        caps::clear(None, caps::CapSet::Effective).unwrap();
        assert_eq!(next(&mut monitor).await, added(&["10.9.8.7"]));
    });
}

/// A host with one network card and a default route, in a namespace of its own, and its monitor.
fn on_a_host(name: &str, test: impl AsyncFnOnce(&mut NetMonitor)) {
    inside(name, || {
        run("ip link add eth0 type veth peer name isp");
        run("for card in eth0 isp; do ip link set $card addrgenmode none up || exit; done");
        run("ip addr add 192.168.7.2/24 dev eth0 && ip route add default via 192.168.7.1");
        run(r#"timeout 10 sh -c 'until test $(ip -br link show up | grep -c " UP ") = 2; do :; done'"#);
        in_runtime(async {
            let options = MonitorOptions {
                ignore_interfaces: vec!["peerup0".into()],
                ignore_route_protocol: Some(ROUTE_PROTOCOL),
            };
            let mut monitor = NetMonitor::open(options).await.expect("the network can be watched");
            test(&mut monitor).await;
        });
    });
}

fn in_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(test);
}

async fn next(monitor: &mut NetMonitor) -> NetworkChange {
    timeout(DEADLINE, monitor.changed()).await.expect("a change is told")
}

async fn assert_silent(monitor: &mut NetMonitor) {
    let told = timeout(SILENCE, monitor.changed()).await;
    assert!(told.is_err(), "told without reason: {told:?}");
}

fn added(addresses: &[&str]) -> NetworkChange {
    NetworkChange { addresses_added: ips(addresses), ..NetworkChange::default() }
}

fn removed(addresses: &[&str]) -> NetworkChange {
    NetworkChange { addresses_removed: ips(addresses), ..NetworkChange::default() }
}

fn overlay() -> Overlay {
    let addresses =
        OverlayAddrs { v4: Some(Ipv4Addr::new(10, 64, 0, 1)), v6: "fd12::1".parse().expect("valid") };
    let (v4_range, v6_range) = ("10.64.0.0/16".parse().expect("valid"), "fd12::/48".parse().expect("valid"));
    Overlay { interface: "peerup0".into(), addresses, mtu: 1280, v4_range, v6_range }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("valid")).collect()
}
