//! Dropping privileges for real, in a process of its own for each test: there is no way back.
#![cfg(target_os = "linux")]

#[path = "../../tun/tests/namespace/mod.rs"]
mod namespace;

use std::fs;
use std::process::Command;

use namespace::{inside, run};
use peerup_service::{Held, Keep, PrivilegeError, Target, drop_privileges, has_net_admin};

/// CAP_NET_ADMIN has number 12.
const NET_ADMIN: &str = "0000000000001000";
/// CAP_NET_BIND_SERVICE has number 10.
const BIND_SERVICE: &str = "0000000000000400";
const NONE: &str = "0000000000000000";
const NOBODY: Target = Target { uid: 65_533, gid: 65_533 };

#[test]
fn a_node_keeps_net_admin_and_nothing_else() {
    inside("a_node_keeps_net_admin_and_nothing_else", || {
        assert!(has_net_admin());
        let held = drop_privileges(None, Keep::NetAdmin).unwrap();
        assert_eq!(held, Held { uid: 0, gid: 0, net_admin: true, no_new_privileges: true });
        for (set, want) in [
            ("CapPrm", NET_ADMIN),
            ("CapEff", NET_ADMIN),
            ("CapBnd", NET_ADMIN),
            ("CapInh", NONE),
            ("CapAmb", NONE),
        ] {
            assert_eq!(status(set), want, "{set}");
        }
        run("ip link set lo up");
        assert!(!Command::new("mount").args(["-t", "tmpfs", "x", "/mnt"]).output().unwrap().status.success());
    });
}

#[test]
fn a_relay_keeps_nothing() {
    inside("a_relay_keeps_nothing", || {
        let held = drop_privileges(None, Keep::Nothing).unwrap();
        assert!(!held.net_admin && held.no_new_privileges);
        for set in ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"] {
            assert_eq!(status(set), NONE, "{set}");
        }
        assert!(!has_net_admin());
    });
}

#[test]
fn a_relay_on_low_ports_keeps_binding_them_and_nothing_else() {
    inside("a_relay_on_low_ports_keeps_binding_them_and_nothing_else", || {
        drop_privileges(None, Keep::LowPorts).unwrap();
        for (set, want) in [("CapPrm", BIND_SERVICE), ("CapEff", BIND_SERVICE), ("CapAmb", NONE)] {
            assert_eq!(status(set), want, "{set}");
        }
        std::net::TcpListener::bind("0.0.0.0:443").unwrap();
        assert!(!has_net_admin());
    });
}

#[test]
fn dropping_twice_is_dropping_once() {
    inside("dropping_twice_is_dropping_once", || {
        drop_privileges(None, Keep::NetAdmin).unwrap();
        assert!(drop_privileges(None, Keep::NetAdmin).unwrap().net_admin);
        assert!(!drop_privileges(None, Keep::Nothing).unwrap().net_admin);
        assert!(!drop_privileges(None, Keep::NetAdmin).unwrap().net_admin);
    });
}

/// Needs other users than the one that a namespace of one's own has; so root becomes nobody, and everybody else is
/// refused.
#[test]
fn only_root_becomes_another_user_and_it_takes_net_admin_along() {
    const INSIDE: &str = "PEERUP_TEST_OWN_PROCESS";
    if std::env::var_os(INSIDE).is_none() {
        let name = "only_root_becomes_another_user_and_it_takes_net_admin_along";
        let mut own_process = Command::new(std::env::current_exe().unwrap());
        let output = own_process.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let (privileged, had_net_admin) = (status("CapEff") != NONE, has_net_admin());
    match drop_privileges(Some(NOBODY), Keep::NetAdmin) {
        Ok(held) => {
            assert_eq!((held.uid, held.gid, held.no_new_privileges), (NOBODY.uid, NOBODY.gid, true));
            assert_eq!(held.net_admin, had_net_admin);
            assert_eq!(status("CapEff"), if had_net_admin { NET_ADMIN } else { NONE });
            assert_eq!(status("Groups"), NOBODY.gid.to_string());
            assert_eq!(status("Uid"), "65533\t65533\t65533\t65533");
            assert!(fs::read("/etc/shadow").is_err());
        }
        Err(PrivilegeError::Groups { .. } | PrivilegeError::SwitchUser { .. }) => assert!(!privileged),
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn root_becomes_the_owner_of_the_directory_and_nobody_else_becomes_anybody() {
    let dir = tempfile::TempDir::new().unwrap();
    assert_eq!(Target::owner_of(dir.path()).unwrap(), None);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path(), Some(NOBODY.uid), Some(NOBODY.gid)).unwrap();
        assert_eq!(Target::owner_of(dir.path()).unwrap(), Some(NOBODY));
        let missing = Target::owner_of(&dir.path().join("missing"));
        assert!(matches!(missing, Err(PrivilegeError::Owner { .. })));
    }
}

/// A line of this thread's status: capabilities belong to threads.
fn status(key: &str) -> String {
    let text = fs::read_to_string("/proc/thread-self/status").expect("Linux has /proc");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.expect("the kernel reports it").trim().to_owned()
}
