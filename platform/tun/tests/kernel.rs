//! The TUN device against a real kernel.
#![cfg(target_os = "linux")]

mod namespace;

use std::future::Future;
use std::io;
use std::net::UdpSocket;

use namespace::{inside, run};
use peerup_tun::{Device, TunDevice, TunError, TunOptions};

#[test]
fn a_fresh_device_is_down_and_gone_after_drop() {
    inside("a_fresh_device_is_down_and_gone_after_drop", || {
        let before = run("ip -d link");
        in_runtime(async {
            let device = TunDevice::create("peerup0", 1380).unwrap();
            assert_eq!((device.name(), device.mtu()), ("peerup0", 1380));
            let link = run("ip -d link show peerup0");
            for property in ["mtu 1380", "state DOWN", "tun type tun pi off vnet_hdr off persist off"] {
                assert!(link.contains(property), "{property}: {link}");
            }
            assert!(!run("ip addr show peerup0").contains("inet"));
        });
        assert_eq!(run("ip -d link"), before);
    });
}

#[test]
fn packets_pass_in_both_directions() {
    inside("packets_pass_in_both_directions", || {
        in_runtime(async {
            let device = TunDevice::create("peerup0", 1280).unwrap();
            run("ip link set peerup0 up");
            run("ip addr add 10.64.0.1/24 dev peerup0");
            let socket = UdpSocket::bind("10.64.0.1:7000").unwrap();
            socket.connect("10.64.0.2:7001").unwrap();
            socket.send(b"hello").unwrap();
            let mut buffer = [0; 2000];
            let packet = loop {
                let length = device.recv(&mut buffer).await.unwrap();
                // The kernel's own IPv6 chatter on a fresh link comes first.
                if buffer[0] >> 4 == 4 {
                    break buffer[..length].to_vec();
                }
            };
            assert!(packet.ends_with(b"hello"), "{packet:?}");
            device.send(&reply_to(&packet)).await.unwrap();
            let mut answer = [0; 16];
            assert_eq!(socket.recv(&mut answer).unwrap(), 5);
            assert_eq!(&answer[..5], b"hello");
            while device.try_recv(&mut buffer).is_ok() {}
            assert_eq!(device.try_recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        });
    });
}

#[test]
fn a_name_in_use_is_told_from_a_name_of_another_kind() {
    inside("a_name_in_use_is_told_from_a_name_of_another_kind", || {
        in_runtime(async {
            let _held = TunDevice::create("peerup0", 1280).unwrap();
            for options in [TunOptions::plain(1280), TunOptions::with_offload(1280)] {
                let create = |name| TunDevice::create_with(name, options).err();
                assert!(matches!(create("peerup0"), Some(TunError::Busy { .. })));
                assert!(matches!(create("lo"), Some(TunError::NameTaken { .. })));
            }
        });
    });
}

#[test]
fn without_cap_net_admin_the_missing_capability_is_named() {
    inside("without_cap_net_admin_the_missing_capability_is_named", || {
        in_runtime(async {
            caps::clear(None, caps::CapSet::Effective).unwrap();
            let error = TunDevice::create("peerup0", 1280).err().unwrap();
            assert!(matches!(error, TunError::NotPermitted { .. }), "{error:?}");
        });
    });
}

#[test]
fn a_device_deleted_by_the_administrator_fails_its_reader() {
    inside("a_device_deleted_by_the_administrator_fails_its_reader", || {
        in_runtime(async {
            let device = TunDevice::create("peerup0", 1280).unwrap();
            run("ip link set peerup0 up");
            let mut buffer = [0; 2000];
            while device.try_recv(&mut buffer).is_ok() {}
            run("ip link del peerup0");
            let error = loop {
                if let Err(error) = device.recv(&mut buffer).await {
                    break error;
                }
            };
            assert_ne!(error.kind(), io::ErrorKind::WouldBlock);
        });
    });
}

fn in_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(test);
}

/// The same UDP datagram with source and destination exchanged; the sums stay right, as sums commute.
fn reply_to(packet: &[u8]) -> Vec<u8> {
    let mut reply = packet.to_vec();
    reply[12..16].copy_from_slice(&packet[16..20]);
    reply[16..20].copy_from_slice(&packet[12..16]);
    reply[20..22].copy_from_slice(&packet[22..24]);
    reply[22..24].copy_from_slice(&packet[20..22]);
    reply
}
