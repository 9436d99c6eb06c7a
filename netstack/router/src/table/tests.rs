use super::*;
use crate::testing::*;
use proptest::{collection::vec, prelude::*};

/// Peer 1 is online with a subnet behind it, peer 2 is connecting, peer 3 is offline.
fn table() -> RoutingTable {
    let mut builder = builder();
    let peers: [(u8, Reachability, &[&str]); 3] = [
        (1, Reachability::Online, &["10.64.0.2/32", "fd12:3456:789a::2/128", "192.168.7.0/24"]),
        (2, Reachability::Connecting, &["10.64.0.3/32", "192.168.7.99/32"]),
        (3, Reachability::Offline, &["10.64.0.4/32"]),
    ];
    for (n, reachability, prefixes) in peers {
        let index = builder.add_peer(peer(n), reachability).unwrap();
        for prefix in prefixes {
            builder.add_prefix(index, net(prefix)).unwrap();
        }
    }
    builder.build()
}

fn index(n: u8) -> PeerIndex {
    table().index_of(&peer(n)).unwrap()
}

fn outbound(source: &str, destination: &str) -> Result<PeerIndex, DropReason> {
    table().outbound(&parse(&udp(source, destination, 100)))
}

fn inbound(from: u8, source: &str, destination: &str) -> Result<(), DropReason> {
    table().inbound(index(from), &parse(&udp(source, destination, 100)))
}

#[test]
fn packets_go_to_the_peer_that_has_the_destination() {
    assert_eq!(outbound("10.64.0.1", "10.64.0.2"), Ok(index(1)));
    assert_eq!(outbound("fd12:3456:789a::1", "fd12:3456:789a::2"), Ok(index(1)));
}

#[test]
fn a_subnet_is_reached_through_its_peer_and_a_longer_prefix_in_it_through_another() {
    assert_eq!(outbound("10.64.0.1", "192.168.7.5"), Ok(index(1)));
    assert_eq!(outbound("10.64.0.1", "192.168.7.99"), Ok(index(2)));
}

#[test]
fn a_connecting_peer_is_routed_to_and_an_offline_one_is_refused_at_once() {
    assert_eq!(outbound("10.64.0.1", "10.64.0.3"), Ok(index(2)));
    assert_eq!(outbound("10.64.0.1", "10.64.0.4"), Err(DropReason::PeerOffline));
}

#[test]
fn only_packets_from_own_addresses_leave() {
    for source in ["10.64.0.2", "10.64.9.9", "192.0.2.1", "0.0.0.0"] {
        assert_eq!(outbound(source, "10.64.0.2"), Err(DropReason::SourceNotOwn), "{source}");
    }
    assert_eq!(outbound("fe80::1", "fd12:3456:789a::2"), Err(DropReason::SourceNotOwn));
}

#[test]
fn unknown_destinations_inside_and_outside_the_overlay_are_told_apart() {
    assert_eq!(outbound("10.64.0.1", "10.64.0.77"), Err(DropReason::NoPeer));
    assert_eq!(outbound("fd12:3456:789a::1", "fd12:3456:789a::77"), Err(DropReason::NoPeer));
    assert_eq!(outbound("10.64.0.1", "10.65.0.2"), Err(DropReason::OutsideOverlay));
    assert_eq!(outbound("fd12:3456:789a::1", "2001:db8::1"), Err(DropReason::OutsideOverlay));
}

#[test]
fn packets_to_this_node_do_not_leave_it() {
    assert_eq!(outbound("10.64.0.1", "10.64.0.1"), Err(DropReason::DestinationOwn));
}

#[test]
fn a_packet_that_is_to_be_sent_on_goes_nowhere() {
    let source_routed = |source, destination| {
        let mut bytes = udp(source, destination, 100);
        // A loose source route to one further node (RFC 791).
        bytes.splice(20..20, [131, 7, 4, 10, 64, 0, 3, 0]);
        (bytes[0], bytes[3]) = (0x47, 108);
        bytes
    };
    let (out, back) = (source_routed("10.64.0.1", "10.64.0.2"), source_routed("10.64.0.2", "10.64.0.1"));
    assert_eq!(table().outbound(&parse(&out)), Err(DropReason::SourceRouted));
    assert_eq!(table().inbound(index(1), &parse(&back)), Err(DropReason::SourceRouted));
    let mut routing = udp("fd12:3456:789a::2", "fd12:3456:789a::1", 100);
    routing.splice(40..40, [17, 0, 4, 1, 0, 0, 0, 0]);
    (routing[5], routing[6]) = (68, 43);
    assert_eq!(table().inbound(index(1), &parse(&routing)), Err(DropReason::SourceRouted));
    // A routing header that is used up has brought its packet where it ends.
    routing[43] = 0;
    assert_eq!(table().inbound(index(1), &parse(&routing)), Ok(()));
}

#[test]
fn multicast_and_broadcast_go_nowhere() {
    for destination in ["224.0.0.251", "255.255.255.255", "10.64.255.255"] {
        assert_eq!(outbound("10.64.0.1", destination), Err(DropReason::Multicast), "{destination}");
        assert_eq!(inbound(1, "10.64.0.2", destination), Err(DropReason::Multicast), "{destination}");
    }
    assert_eq!(outbound("fe80::1", "ff02::2"), Err(DropReason::Multicast));
}

#[test]
fn the_last_address_of_a_two_host_range_is_a_host() {
    let overlay = OverlayRange { v4: "10.64.0.0/31".parse().unwrap(), ..overlay() };
    let own = OverlayAddrs { v4: Some([10, 64, 0, 0].into()), ..own() };
    let mut builder = RoutingTable::builder(own, overlay, MTU);
    let other = builder.add_peer(peer(1), Reachability::Online).unwrap();
    builder.add_prefix(other, net("10.64.0.1/32")).unwrap();
    let bytes = udp("10.64.0.0", "10.64.0.1", 100);
    assert_eq!(builder.build().outbound(&parse(&bytes)), Ok(other));
}

#[test]
fn a_packet_of_exactly_the_mtu_fits_and_one_byte_more_does_not() {
    let packet = |len| udp("10.64.0.1", "10.64.0.2", len);
    let mtu = usize::from(MTU);
    assert_eq!(table().outbound(&parse(&packet(mtu))), Ok(index(1)));
    assert_eq!(table().outbound(&parse(&packet(mtu + 1))), Err(DropReason::TooBig));
}

#[test]
fn a_peer_whose_interface_takes_less_gets_less_and_the_sender_is_told_how_much() {
    let mut builder = builder();
    let (narrow, wide) = ("10.64.0.2", "10.64.0.3");
    for (number, address, mtu) in [(1, narrow, 1300), (2, wide, MTU + 1000)] {
        let peer = builder.add_peer(peer(number), Reachability::Online).unwrap();
        builder.add_prefix(peer, net(&format!("{address}/32"))).unwrap();
        builder.limit_mtu(peer, mtu);
    }
    let table = builder.build();
    for (address, mtu) in [(narrow, 1300), (wide, MTU)] {
        let packet = |len: u16| udp("10.64.0.1", address, usize::from(len));
        assert!(table.outbound(&parse(&packet(mtu))).is_ok());
        let large = packet(mtu + 1);
        assert_eq!(table.outbound(&parse(&large)), Err(DropReason::TooBig));
        let reply = crate::reply_for(DropReason::TooBig, &parse(&large), &table).unwrap();
        // RFC 1191 §4: the MTU of the next hop.
        assert_eq!(parse(&reply).payload()[6..8], mtu.to_be_bytes());
    }
}

#[test]
fn peers_may_use_their_own_addresses_and_subnets_only() {
    assert_eq!(inbound(1, "10.64.0.2", "10.64.0.1"), Ok(()));
    assert_eq!(inbound(1, "192.168.7.5", "10.64.0.1"), Ok(()));
    assert_eq!(inbound(1, "10.64.0.3", "10.64.0.1"), Err(DropReason::Spoofed));
    assert_eq!(inbound(1, "10.64.0.1", "10.64.0.1"), Err(DropReason::Spoofed));
    assert_eq!(inbound(1, "10.64.0.77", "10.64.0.1"), Err(DropReason::Spoofed));
    assert_eq!(inbound(1, "fd12:3456:789a::3", "fd12:3456:789a::1"), Err(DropReason::Spoofed));
}

#[test]
fn an_address_inside_a_peers_subnet_that_another_peer_has_is_spoofed() {
    assert_eq!(inbound(1, "192.168.7.99", "10.64.0.1"), Err(DropReason::Spoofed));
    assert_eq!(inbound(2, "192.168.7.99", "10.64.0.1"), Ok(()));
}

#[test]
fn a_default_route_reaches_neither_into_the_overlay_nor_to_this_node() {
    let mut builder = builder();
    let exit = builder.add_peer(peer(1), Reachability::Online).unwrap();
    builder.add_prefix(exit, net("0.0.0.0/0")).unwrap();
    let table = builder.build();
    let from_exit = |source| table.inbound(exit, &parse(&udp(source, "10.64.0.1", 100)));
    assert_eq!(from_exit("192.0.2.1"), Ok(()));
    assert_eq!(from_exit("10.64.0.1"), Err(DropReason::Spoofed));
    assert_eq!(from_exit("10.64.0.9"), Err(DropReason::Spoofed));
    let to_unknown = udp("10.64.0.1", "10.64.0.9", 100);
    assert_eq!(table.outbound(&parse(&to_unknown)), Err(DropReason::NoPeer));
}

#[test]
fn packets_for_others_are_not_passed_on() {
    for destination in ["10.64.0.3", "192.168.7.5", "192.0.2.1", "127.0.0.1"] {
        assert_eq!(inbound(1, "10.64.0.2", destination), Err(DropReason::NotForUs), "{destination}");
    }
}

#[test]
fn a_node_without_an_ipv4_address_takes_no_ipv4() {
    let mut builder = RoutingTable::builder(OverlayAddrs { v4: None, ..own() }, overlay(), MTU);
    let from = builder.add_peer(peer(1), Reachability::Online).unwrap();
    builder.add_prefix(from, net("10.64.0.2/32")).unwrap();
    let bytes = udp("10.64.0.2", "10.64.0.1", 100);
    assert_eq!(builder.build().inbound(from, &parse(&bytes)), Err(DropReason::NotForUs));
}

#[test]
fn an_index_of_a_larger_table_is_an_unknown_peer() {
    let bytes = udp("10.64.0.2", "10.64.0.1", 100);
    let stale = PeerIndex::new(3);
    assert_eq!(table().inbound(stale, &parse(&bytes)), Err(DropReason::UnknownPeer));
}

/// Addresses from a small pool, so that they meet each other's prefixes.
fn any_addr() -> impl Strategy<Value = IpAddr> {
    let v4 = (62..67u8, 0..3u8, 0..6u8).prop_map(|(b, c, d)| IpAddr::from([10, b, c, d]));
    let v6 = (0..4u16, 0..6u16).prop_map(|(g, h)| IpAddr::from([0xfd12, 0x3456, 0x789a, g, 0, 0, 0, h]));
    prop_oneof![v4, v6]
}

fn any_prefix() -> impl Strategy<Value = ipnet::IpNet> {
    (any_addr(), 0..=24u8, any::<bool>()).prop_map(|(addr, host_bits, host)| {
        let width = if addr.is_ipv4() { 32 } else { 128 };
        ipnet::IpNet::new(addr, if host { width } else { width - host_bits }).unwrap()
    })
}

fn any_table() -> impl Strategy<Value = (RoutingTable, Vec<(PeerIndex, ipnet::IpNet)>)> {
    vec(vec(any_prefix(), 0..4), 1..6).prop_map(|peers| {
        let (mut builder, mut given) = (builder(), Vec::new());
        for (n, prefixes) in peers.into_iter().enumerate() {
            let index = builder.add_peer(peer(n as u8), Reachability::Online).unwrap();
            for prefix in prefixes {
                if builder.add_prefix(index, prefix).is_ok() {
                    given.push((index, prefix));
                }
            }
        }
        (builder.build(), given)
    })
}

proptest! {
    #[test]
    fn no_packet_passes_inbound_with_a_source_outside_its_peers_prefixes(
        (table, given) in any_table(), source in any_addr(), from in 0..6u32,
    ) {
        let own: IpAddr = if source.is_ipv4() { own().v4.unwrap().into() } else { own().v6.into() };
        let bytes = udp_between(source, own, 100);
        let from = PeerIndex::new(from);
        let passed = table.inbound(from, &parse(&bytes)).is_ok();
        let single = |prefix: &ipnet::IpNet| prefix.prefix_len() == prefix.max_prefix_len();
        let holds = |prefix: &ipnet::IpNet| {
            prefix.contains(&source) && (single(prefix) || !overlay().contains(source))
        };
        let in_own_prefix = given.iter().any(|(owner, prefix)| *owner == from && holds(prefix));
        prop_assert!(!passed || in_own_prefix);
        // And the longest prefix around the source is the sender's, not only some prefix.
        let around = given.iter().filter(|(_, prefix)| holds(prefix));
        let longest = around.max_by_key(|(_, prefix)| prefix.prefix_len());
        prop_assert_eq!(passed, longest.is_some_and(|(owner, _)| *owner == from));
    }

    #[test]
    fn what_goes_out_to_a_peer_may_come_back_from_it(
        (table, _) in any_table(), destination in any_addr(),
    ) {
        let own: IpAddr = if destination.is_ipv4() { own().v4.unwrap().into() } else { own().v6.into() };
        let request = udp_between(own, destination, 100);
        let Ok(peer) = table.outbound(&parse(&request)) else { return Ok(()) };
        let response = udp_between(destination, own, 100);
        prop_assert_eq!(table.inbound(peer, &parse(&response)), Ok(()));
    }
}
