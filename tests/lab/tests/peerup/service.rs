//! What systemd sees of a daemon: ready when it is, alive while it is, and gone within three seconds.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use peerup_lab::peerup::{INVITER, Node, Pair};
use peerup_lab::{Show, Signal, clock};

/// `WatchdogSec=` of the test's unit; messages come twice as often.
const WATCHDOG: Duration = Duration::from_secs(1);
/// "graceful shutdown ≤ 3 s"
const GRACEFUL: Duration = Duration::from_secs(3);

#[test]
fn systemd_hears_ready_alive_and_stopping_and_a_dead_relay_is_no_illness() {
    let mut pair = Pair::new("service", Show::Command, crate::homes).unwrap();
    pair.pair().unwrap();
    let manager = Manager::beside(&pair.a);
    let micros = WATCHDOG.as_micros().to_string();
    let command = pair.a.cmd(["daemon", "start"]).unwrap().env("NOTIFY_SOCKET", &manager.address);
    let mut daemon = command.env("WATCHDOG_USEC", micros).deadline(Duration::from_secs(60)).spawn().unwrap();

    manager.wait_for("READY=1", Duration::from_secs(10));
    let addresses = pair.a.host().ask("ip -o addr show dev peerup0").unwrap();
    assert!(addresses.contains(&format!("inet {INVITER}/32")), "ready without an address: {addresses}");

    pair.relay.kill();
    let began = clock::now();
    (0..4).for_each(|_| manager.wait_for("WATCHDOG=1", WATCHDOG));
    assert!(began.elapsed() < WATCHDOG * 4, "{:?}", began.elapsed());

    let began = clock::now();
    pair.a.signal(Signal::SIGTERM).unwrap();
    manager.wait_for("STOPPING=1", GRACEFUL);
    let ended = daemon.wait(GRACEFUL).unwrap();
    println!("stopped {:?} after SIGTERM", began.elapsed());
    assert!(ended.code == Some(0) && began.elapsed() <= GRACEFUL, "{ended}");
}

/// The socket on which a service manager listens.
struct Manager {
    socket: UnixDatagram,
    /// As programs on the host name it.
    address: String,
}

impl Manager {
    fn beside(node: &Node) -> Self {
        let path = node.host().dir().join("notify");
        let socket = UnixDatagram::bind(node.host().outside(&path)).unwrap();
        Self { socket, address: path.display().to_string() }
    }

    /// Reads until a message has this line.
    fn wait_for(&self, line: &str, patience: Duration) {
        let began = clock::now();
        let mut message = [0; 4096];
        while began.elapsed() < patience {
            self.socket.set_read_timeout(Some(patience)).unwrap();
            let length = self.socket.recv(&mut message).unwrap_or_else(|error| panic!("{line}: {error}"));
            if String::from_utf8_lossy(&message[..length]).lines().any(|found| found == line) {
                return;
            }
        }
        panic!("no {line} within {patience:?}");
    }
}
