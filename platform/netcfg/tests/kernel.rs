//! The host's network against a real kernel: what is changed, and that nothing stays.
#![cfg(target_os = "linux")]

#[path = "../../tun/tests/namespace/mod.rs"]
mod namespace;

use std::fs;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::path::PathBuf;

use namespace::{inside, run};
use peerup_netcfg::{
    Change, HostNetwork, NetworkError, Overlay, RangeConflict, RangeError, check_range, cleanup,
};
use peerup_tun::TunDevice;
use peerup_types::OverlayAddrs;
use tempfile::TempDir;

const EHOSTUNREACH: i32 = 113;

#[test]
fn a_configured_overlay_looks_as_designed() {
    on_a_host("a_configured_overlay_looks_as_designed", async |host| {
        let _tun = TunDevice::create("peerup0", 1380).unwrap();
        let mut network = host.open().await;
        network.configure(&overlay()).await.unwrap();
        assert!(network.has_ipv6());
        assert_contains(
            &run("ip -d link show peerup0"),
            &["UP", "mtu 1280", "qlen 1000", "addrgenmode none"],
        );
        let addresses = run("ip addr show peerup0");
        assert_contains(
            &addresses,
            &["inet 10.64.0.1/32 scope global noprefixroute", "inet6 fd12::1/128 scope global"],
        );
        for unwanted in ["fe80", "tentative", "brd", "dadfailed"] {
            assert!(!addresses.contains(unwanted), "{unwanted}: {addresses}");
        }
        assert_eq!(run("ip route show proto 112"), "unreachable 10.64.0.0/16 metric 4294967294 \n");
        assert_contains(
            &run("ip -6 route show proto 112"),
            &["unreachable fd12::/48 dev lo metric 4294967294"],
        );
        network.teardown().await.unwrap();
    });
}

#[test]
fn peers_get_host_routes_and_lose_them() {
    on_a_host("peers_get_host_routes_and_lose_them", async |host| {
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = host.open().await;
        assert!(matches!(network.set_peers(&[]).await, Err(NetworkError::NotConfigured)));
        network.configure(&overlay()).await.unwrap();
        network.set_peers(&ips(&["10.64.0.2", "10.64.0.3", "fd12::2"])).await.unwrap();
        assert_eq!(routes_via("peerup0"), ["10.64.0.2", "10.64.0.3", "fd12::2"]);
        assert_contains(&run("ip route get 10.64.0.2"), &["dev peerup0 src 10.64.0.1"]);
        assert_contains(&run("ip route get fd12::2"), &["dev peerup0", "src fd12::1"]);
        network.set_peers(&ips(&["10.64.0.3", "10.64.0.4"])).await.unwrap();
        assert_eq!(routes_via("peerup0"), ["10.64.0.3", "10.64.0.4"]);
        network.set_peers(&ips(&["10.64.0.3", "10.64.0.4"])).await.unwrap();
        network.set_peers(&[]).await.unwrap();
        assert!(routes_via("peerup0").is_empty());
        network.teardown().await.unwrap();
    });
}

#[test]
fn one_route_that_cannot_be_changed_does_not_hold_up_the_others() {
    on_a_host("one_route_that_cannot_be_changed_does_not_hold_up_the_others", async |host| {
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = host.open().await;
        network.configure(&overlay()).await.unwrap();
        network.set_peers(&ips(&["10.64.0.2", "10.64.0.3"])).await.unwrap();
        run("ip route del 10.64.0.2 && ip route add 10.64.0.4 dev peerup0 proto static");
        let error = network.set_peers(&ips(&["10.64.0.4", "10.64.0.5"])).await.unwrap_err();
        let add = Change::AddRoute { destination: "10.64.0.4".parse().unwrap() };
        assert!(matches!(&error, NetworkError::Change { change, .. } if *change == add), "{error:?}");
        assert_eq!(routes_via("peerup0"), ["10.64.0.4", "10.64.0.5"]);
        run("ip route del 10.64.0.4");
        network.set_peers(&ips(&["10.64.0.4", "10.64.0.5"])).await.unwrap();
        assert_contains(&run("ip route show proto 112"), &["10.64.0.4 dev peerup0"]);
        network.teardown().await.unwrap();
    });
}

#[test]
fn a_peer_cannot_draw_addresses_outside_the_overlay() {
    on_a_host("a_peer_cannot_draw_addresses_outside_the_overlay", async |host| {
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = host.open().await;
        network.configure(&overlay()).await.unwrap();
        for outside in ["192.168.7.1", "2001:db8::1"] {
            let error = network.set_peers(&ips(&["10.64.0.2", outside])).await.unwrap_err();
            assert!(
                matches!(error, NetworkError::NoOverlayAddress { address } if address.to_string() == outside)
            );
        }
        let error = network.change_address(Some(Ipv4Addr::new(192, 168, 7, 1))).await.unwrap_err();
        assert!(matches!(error, NetworkError::NoOverlayAddress { .. }));
        assert!(routes_via("peerup0").is_empty());
        network.teardown().await.unwrap();
    });
}

#[test]
fn an_unknown_address_fails_at_once() {
    on_a_host("an_unknown_address_fails_at_once", async |host| {
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = host.open().await;
        network.configure(&overlay()).await.unwrap();
        network.set_peers(&ips(&["10.64.0.2"])).await.unwrap();
        assert_eq!(TcpStream::connect("10.64.9.9:22").unwrap_err().raw_os_error(), Some(EHOSTUNREACH));
        assert_eq!(TcpStream::connect("[fd12::99]:22").unwrap_err().raw_os_error(), Some(EHOSTUNREACH));
        UdpSocket::bind("0.0.0.0:0").unwrap().connect("10.64.0.2:22").unwrap();
        network.teardown().await.unwrap();
    });
}

#[test]
fn a_lost_claim_changes_the_address() {
    on_a_host("a_lost_claim_changes_the_address", async |host| {
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = host.open().await;
        network.configure(&overlay()).await.unwrap();
        network.set_peers(&ips(&["10.64.0.2"])).await.unwrap();
        let other = Some(Ipv4Addr::new(10, 64, 0, 7));
        for (new, want) in [(other, "10.64.0.7/32"), (overlay().addresses.v4, "10.64.0.1/32")] {
            network.change_address(new).await.unwrap();
            network.change_address(new).await.unwrap();
            assert_eq!(v4_addresses("peerup0"), want);
            assert_eq!(routes_via("peerup0"), ["10.64.0.2"]);
        }
        network.teardown().await.unwrap();
    });
}

#[test]
fn without_an_address_of_our_own_peers_are_unreachable_rather_than_reached_from_a_wrong_one() {
    let name = "without_an_address_of_our_own_peers_are_unreachable_rather_than_reached_from_a_wrong_one";
    on_a_host(name, async |host| {
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = host.open().await;
        let unclaimed = OverlayAddrs { v4: None, ..overlay().addresses };
        network.configure(&Overlay { addresses: unclaimed, ..overlay() }).await.unwrap();
        network.set_peers(&ips(&["10.64.0.2", "fd12::2"])).await.unwrap();
        assert_eq!(routes_via("peerup0"), ["fd12::2"]);
        for _ in 0..2 {
            network.change_address(overlay().addresses.v4).await.unwrap();
            assert_eq!(routes_via("peerup0"), ["10.64.0.2", "fd12::2"]);
            network.change_address(None).await.unwrap();
            assert_eq!(v4_addresses("peerup0"), "");
            assert_eq!(routes_via("peerup0"), ["fd12::2"]);
            assert_eq!(TcpStream::connect("10.64.0.2:22").unwrap_err().raw_os_error(), Some(EHOSTUNREACH));
        }
        network.teardown().await.unwrap();
    });
}

#[test]
fn teardown_may_be_repeated_and_configuring_again_works() {
    on_a_host("teardown_may_be_repeated_and_configuring_again_works", async |host| {
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let with_device = snapshot();
        let mut network = host.open().await;
        network.teardown().await.unwrap();
        for _ in 0..2 {
            network.configure(&overlay()).await.unwrap();
            network.set_peers(&ips(&["10.64.0.2"])).await.unwrap();
            assert!(host.journal().exists());
            network.teardown().await.unwrap();
            assert_unchanged(&with_device);
            assert!(!host.journal().exists());
        }
        network.teardown().await.unwrap();
        network.configure(&overlay()).await.unwrap();
        network.configure(&Overlay { mtu: 1400, ..overlay() }).await.unwrap();
        assert_contains(&run("ip link show peerup0"), &["mtu 1400"]);
        network.teardown().await.unwrap();
    });
}

#[test]
fn after_kill_9_cleanup_removes_what_outlived_the_process() {
    on_a_host("after_kill_9_cleanup_removes_what_outlived_the_process", async |host| {
        let tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = host.open().await;
        network.configure(&overlay()).await.unwrap();
        network.set_peers(&ips(&["10.64.0.2"])).await.unwrap();
        drop(tun);
        std::mem::forget(network);
        assert_contains(&run("ip route"), &["unreachable 10.64.0.0/16"]);
        let report = cleanup(&host.journal()).await.unwrap();
        assert_eq!(report.removed.len(), 2, "{report:?}");
        assert!(cleanup(&host.journal()).await.unwrap().is_empty());
    });
}

#[test]
fn after_kill_9_the_next_run_starts_from_a_clean_host() {
    on_a_host("after_kill_9_the_next_run_starts_from_a_clean_host", async |host| {
        let tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = host.open().await;
        network.configure(&overlay()).await.unwrap();
        drop(tun);
        std::mem::forget(network);
        check_range(overlay().v4_range, "peerup0").await.unwrap();
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = host.open().await;
        assert_eq!(run("ip route show proto 112"), "");
        network.configure(&overlay()).await.unwrap();
        network.teardown().await.unwrap();
    });
}

#[test]
fn a_dropped_network_takes_its_changes_back() {
    on_a_host("a_dropped_network_takes_its_changes_back", async |host| {
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let before = snapshot();
        let mut network = host.open().await;
        network.configure(&overlay()).await.unwrap();
        network.set_peers(&ips(&["10.64.0.2", "fd12::2"])).await.unwrap();
        drop(network);
        assert_unchanged(&before);
        assert!(!host.journal().exists());
    });
}

#[test]
fn an_administrators_persistent_device_stays_and_looks_as_before() {
    on_a_host("an_administrators_persistent_device_stays_and_looks_as_before", async |host| {
        run("ip tuntap add dev peerup0 mode tun && ip link set peerup0 mtu 1400");
        run("ip addr add 192.0.2.1/24 dev peerup0");
        let before = snapshot();
        let tun = TunDevice::create("peerup0", 1400).unwrap();
        let mut network = host.open().await;
        network.configure(&overlay()).await.unwrap();
        network.set_peers(&ips(&["10.64.0.2"])).await.unwrap();
        drop(tun);
        std::mem::forget(network);
        let report = cleanup(&host.journal()).await.unwrap();
        assert!(report.removed.contains(&Change::RestoreLink { interface: "peerup0".into() }), "{report:?}");
        assert_unchanged(&before);
        run("ip link del peerup0");
    });
}

#[test]
fn a_forged_journal_cannot_touch_the_hosts_own_network() {
    on_a_host("a_forged_journal_cannot_touch_the_hosts_own_network", async |host| {
        run("ip route add unreachable 203.0.113.0/24 metric 4294967294 && ip route add 192.168.9.1 dev eth0");
        let before = snapshot();
        let forged = r#"{"version":1,"interface":"eth0","link":{"index":3,"up":false,"mtu":1280,"tx_queue_length":1,
            "address_generation":1,"persistent":false},"addresses":["192.168.7.2"],"peers":["192.168.9.1"],
            "unreachable":["0.0.0.0/0","192.168.7.0/24","203.0.113.0/24"]}"#;
        fs::write(host.journal(), forged).unwrap();
        assert!(cleanup(&host.journal()).await.unwrap().is_empty());
        assert_unchanged(&before);
        run("ip route del 192.168.9.1 && ip route del unreachable 203.0.113.0/24");
    });
}

#[test]
fn a_range_in_use_is_refused_with_its_owner_and_a_free_one() {
    on_a_host("a_range_in_use_is_refused_with_its_owner_and_a_free_one", async |_| {
        let default = overlay().v4_range;
        check_range(default, "peerup0").await.unwrap();
        run("ip addr add 10.64.3.1/24 dev eth0");
        let lan = conflict(check_range(default, "peerup0").await);
        assert_eq!((lan.owner.as_str(), lan.free), ("eth0 10.64.3.0/24", "10.65.0.0/16".parse().ok()));
        run("ip addr del 10.64.3.1/24 dev eth0 && ip route add 10.0.0.0/8 via 192.168.7.1");
        let company = conflict(check_range(default, "peerup0").await);
        assert_eq!(company.owner, "route 10.0.0.0/8 via 192.168.7.1 dev eth0");
        assert_eq!(company.free, "100.96.0.0/16".parse().ok());
        run("ip route del 10.0.0.0/8 && ip addr add 10.64.0.1 peer 172.31.0.1 dev eth0");
        assert_eq!(conflict(check_range(default, "peerup0").await).owner, "eth0 10.64.0.1/32");
        run("ip addr del 10.64.0.1 peer 172.31.0.1 dev eth0");
    });
}

#[test]
fn what_does_not_stand_in_the_way_is_no_conflict() {
    on_a_host("what_does_not_stand_in_the_way_is_no_conflict", async |host| {
        run("ip route add 0.0.0.0/1 via 192.168.7.1 && ip route add 10.64.0.0/16 via 192.168.7.1 table 99");
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = host.open().await;
        network.configure(&overlay()).await.unwrap();
        network.set_peers(&ips(&["10.64.0.2"])).await.unwrap();
        check_range(overlay().v4_range, "peerup0").await.unwrap();
        let second_node = conflict(check_range(overlay().v4_range, "peerup1").await);
        assert_eq!(second_node.owner, "peerup0 10.64.0.1/32");
        network.teardown().await.unwrap();
        run("ip route del 0.0.0.0/1 && ip route flush table 99");
    });
}

#[test]
fn a_host_without_ipv6_is_served_with_ipv4() {
    on_a_host("a_host_without_ipv6_is_served_with_ipv4", async |host| {
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        run("echo 1 > /proc/sys/net/ipv6/conf/peerup0/disable_ipv6");
        let mut network = host.open().await;
        network.configure(&overlay()).await.unwrap();
        assert!(!network.has_ipv6());
        network.set_peers(&ips(&["10.64.0.2", "fd12::2"])).await.unwrap();
        assert_eq!(routes_via("peerup0"), ["10.64.0.2"]);
        network.teardown().await.unwrap();
    });
}

#[test]
fn what_cannot_be_configured_is_refused_and_leaves_nothing() {
    on_a_host("what_cannot_be_configured_is_refused_and_leaves_nothing", async |host| {
        let mut network = host.open().await;
        let missing = network.configure(&overlay()).await.unwrap_err();
        assert!(matches!(missing, NetworkError::NoInterface { .. }), "{missing}");
        let ethernet = Overlay { interface: "eth0".into(), ..overlay() };
        assert!(matches!(network.configure(&ethernet).await, Err(NetworkError::NotTun { .. })));
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let everything = Overlay { v4_range: "0.0.0.0/0".parse().unwrap(), ..overlay() };
        assert!(matches!(network.configure(&everything).await, Err(NetworkError::DefaultRoute { .. })));
        let before = snapshot();
        let addresses = OverlayAddrs { v6: "::1".parse().unwrap(), ..overlay().addresses };
        let refused = Overlay { addresses, v6_range: "::/64".parse().unwrap(), ..overlay() };
        let error = network.configure(&refused).await.unwrap_err();
        assert!(matches!(error, NetworkError::Change { change: Change::AddAddress { .. }, .. }), "{error:?}");
        assert_unchanged(&before);
        assert!(!host.journal().exists());
    });
}

#[test]
fn nothing_is_changed_that_cannot_be_journaled() {
    on_a_host("nothing_is_changed_that_cannot_be_journaled", async |host| {
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let before = snapshot();
        let mut network = HostNetwork::open(host.state.path().join("missing/network.json")).await.unwrap();
        assert!(matches!(network.configure(&overlay()).await, Err(NetworkError::Journal(_))));
        assert_unchanged(&before);
    });
}

#[test]
fn without_cap_net_admin_the_hint_says_so() {
    on_a_host("without_cap_net_admin_the_hint_says_so", async |host| {
        let _tun = TunDevice::create("peerup0", 1280).unwrap();
        let mut network = host.open().await;
        caps::clear(None, caps::CapSet::Effective).unwrap();
        let error = network.configure(&overlay()).await.unwrap_err();
        assert!(error.hint().unwrap().contains("CAP_NET_ADMIN"), "{error:?}");
        let permitted = caps::read(None, caps::CapSet::Permitted).unwrap();
        caps::set(None, caps::CapSet::Effective, &permitted).unwrap();
        network.teardown().await.unwrap();
    });
}

/// A host with one network card and default routes, in a namespace of its own. After the test it has to be as it
/// was before.
struct Host {
    state: TempDir,
}

impl Host {
    fn journal(&self) -> PathBuf {
        self.state.path().join("network.json")
    }

    async fn open(&self) -> HostNetwork {
        HostNetwork::open(self.journal()).await.expect("the network can be opened")
    }
}

fn on_a_host(name: &str, test: impl AsyncFnOnce(&Host)) {
    inside(name, || {
        run("ip link add eth0 type veth peer name isp");
        run("for card in eth0 isp; do ip link set $card addrgenmode none up || exit; done");
        run("ip addr add 192.168.7.2/24 dev eth0 && ip route add default via 192.168.7.1");
        run("ip -6 addr add 2001:db8::2/64 dev eth0 nodad && ip -6 route add default via 2001:db8::1");
        await_shell(r#"test $(ip -br link show up | grep -c " UP ") = 2"#);
        await_shell("ip -6 route show table local | grep -q db8::2");
        let host = Host { state: TempDir::new().expect("there is a directory for temporary files") };
        let before = snapshot();
        in_runtime(test(&host));
        assert_unchanged(&before);
        assert!(!host.journal().exists(), "the journal stayed");
    });
}

fn in_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(test);
}

/// Waits for what the kernel does in its own time: the state of a link, routes to an IPv6 address.
fn await_shell(condition: &str) {
    run(&format!("timeout 10 sh -c 'until {condition}; do :; done'"));
}

/// Everything that this crate could change, without the queueing discipline that a link gets when it is up for the
/// first time and keeps.
fn snapshot() -> String {
    run("ip -d link | sed 's/qdisc [a-z_]*//'; ip route show table all; ip -6 route show table all; \
         ip -o addr; ip rule; ip -6 rule")
}

fn assert_unchanged(before: &str) {
    let after = snapshot();
    let only_in = |this: &str, other: &str| -> Vec<String> {
        this.lines().filter(|line| !other.lines().any(|same| same == *line)).map(ToOwned::to_owned).collect()
    };
    assert_eq!(
        only_in(before, &after),
        only_in(&after, before),
        "left: gone or changed, right: stayed or changed"
    );
}

fn overlay() -> Overlay {
    Overlay {
        interface: "peerup0".into(),
        addresses: OverlayAddrs {
            v4: Some(Ipv4Addr::new(10, 64, 0, 1)),
            v6: "fd12::1".parse().expect("valid"),
        },
        mtu: 1280,
        v4_range: "10.64.0.0/16".parse().expect("valid"),
        v6_range: "fd12::/48".parse().expect("valid"),
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("valid")).collect()
}

/// Destinations of the main table through a link, in the kernel's order.
fn routes_via(interface: &str) -> Vec<String> {
    let listed = run(&format!("ip route show dev {interface}; ip -6 route show dev {interface}"));
    listed.lines().filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned).collect()
}

fn v4_addresses(interface: &str) -> String {
    run(&format!("ip -4 -o addr show {interface} | sed 's/.* inet //; s/ scope.*//'")).trim_end().to_owned()
}

fn conflict(result: Result<(), RangeError>) -> RangeConflict {
    match result {
        Err(RangeError::Conflict(conflict)) => conflict,
        other => panic!("no conflict: {other:?}"),
    }
}

fn assert_contains(text: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}
