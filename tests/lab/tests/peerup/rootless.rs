//! A user without any privilege: reached and reaching, with real programs on both sides.

use std::time::Duration;

use anyhow::Result;
use peerup_lab::peerup::{INVITER, JOINER, Node, Relay, User};
use peerup_lab::tools::ssh::Sshd;
use peerup_lab::tools::{dns, nginx};
use peerup_lab::{Cmd, Lab, Process, Show};

use crate::limits::FIRST_REPLY;

/// Bytes of a bulk transfer; PEERUP_LAB_BULK says another number, such as 1000000000.
const BULK: u64 = 50_000_000;

/// `a` is a user's node without an interface, `b` a node with one.
pub struct Rootless {
    pub a: Node,
    pub user: User,
    pub b: Node,
    _relay: Relay,
    _lab: Lab,
}

impl Rootless {
    pub fn running(name: &str) -> Self {
        let mut lab = Lab::new(name).unwrap();
        let internet = lab.segment("internet", "203.0.113.0/24 2001:db8::/64").unwrap();
        let vps = lab.host("relay").unwrap().on(&internet, "203.0.113.3 2001:db8::3").unwrap();
        let a = lab.host("a").unwrap().on(&internet, "203.0.113.21 2001:db8::21").unwrap();
        let b = lab.host("b").unwrap().on(&internet, "203.0.113.22 2001:db8::22").unwrap();
        let relay = Relay::start(&vps, "203.0.113.3", Show::Command).unwrap();
        let user = User::on(&a).unwrap();
        let (a, b) = (Node::of_user(user.clone(), Show::Command), Node::new(b, Show::Command));
        a.init(&relay.multiaddr()).unwrap();
        relay.authorize(&a.id().unwrap(), "a").unwrap();
        let invitation = a.invite().unwrap();
        b.join(&invitation.code).unwrap();
        invitation.joined().unwrap();
        let up = a.peerup(["up", "--userspace"]).unwrap();
        assert!(up.stdout.contains("without an interface"), "{up}");
        b.up().unwrap();
        a.wait_for_class("b", "direct", Duration::from_secs(20)).unwrap();
        Self { a, user, b, _relay: relay, _lab: lab }
    }

    /// On `b`: a program that answers with checksums, a web server with one page, and a DNS server with one name.
    fn servers(&self) -> [Process; 3] {
        let host = self.b.host();
        let cmd = |program: &str| host.cmd(program);
        let pages = host.dir().join("www");
        host.ask(&format!("mkdir -p {0}; echo hello > {0}/index.html", pages.display())).unwrap();
        [
            listening(cmd("python3").args(["-u", "-c", DIGEST])),
            nginx::serve(host, cmd, &pages, "80").unwrap(),
            dns::serve(cmd, 53, "home", NAMED).unwrap(),
        ]
    }

    /// The same on `a`, which the user runs.
    fn serve_as_user(&self, script: &str) -> Process {
        listening(self.user.cmd("python3").args(["-u", "-c", script]))
    }

    /// `peerup WORDS…` in a pipe of the user's shell, `PEERUP` being the program.
    fn shell(&self, script: &str) -> Cmd {
        let program = peerup_lab::peerup::binary().unwrap().display().to_string();
        let script = format!("PEERUP={program}; {script}");
        self.user.cmd("bash").args(["-o", "pipefail", "-c", &script]).deadline(Duration::from_secs(60))
    }
}

pub fn listening(server: Cmd) -> Process {
    let server = server.show(Show::Nothing).spawn().unwrap();
    server.wait_for_line("listening", Duration::from_secs(10)).unwrap();
    server
}

pub fn bulk() -> u64 {
    std::env::var("PEERUP_LAB_BULK").ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(BULK)
}

/// Makes a file of that many random bytes at `~/bulk` and says its SHA-256, which tells bytes that are lost, twice or in
/// another order.
pub fn bulk_file(ask: impl Fn(&str) -> Result<String>) -> String {
    ask(&format!("head -c {} /dev/urandom > ~/bulk; sha256sum < ~/bulk | cut -c1-64", bulk())).unwrap()
}

/// Answers each connection with the SHA-256 of all it sends, once it has ended its direction.
pub const DIGEST: &str = "
import socket,hashlib,threading
s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); s.bind(('0.0.0.0',9000)); s.listen(4096)
print('listening')
def serve(c):
    h=hashlib.sha256()
    while True:
        d=c.recv(1<<16)
        if not d: break
        h.update(d)
    c.sendall(h.hexdigest().encode()+b'\\n'); c.close()
while True:
    threading.Thread(target=serve,args=(s.accept()[0],),daemon=True).start()
";

/// What the DNS servers say of `home`.
const NAMED: &str = "192.0.2.7";

/// A query, sent with `send(bytes)` and answered by `receive()`.
const QUERY: &str = "
q=b'\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x04home\\x00\\x00\\x01\\x00\\x01'
send(q); r=receive(); assert r[:2]==q[:2] and r[-4:]==bytes([192,0,2,7]), r
print('answered')
";

#[test]
fn a_user_without_privileges_is_reached_at_the_overlay_address() {
    let pair = Rootless::running("rootless-reached");
    let b = pair.b.host();
    b.cmd("ping").args(["-c", "3", "-i", "0.2", INVITER]).deadline(FIRST_REPLY).run().unwrap();
    // In pieces, both ways.
    b.cmd("ping").args(["-c", "2", "-i", "0.2", "-s", "4000", INVITER]).run().unwrap();
    let v6 = pair.a.status().unwrap().own_ips().into_iter().find(|ip| ip.contains(':')).unwrap();
    b.cmd("ping").args(["-c", "2", "-i", "0.2", &v6]).run().unwrap();

    let _digest = pair.serve_as_user(DIGEST);
    let sum = bulk_file(|script| b.ask(script));
    for address in [INVITER, &v6] {
        // The end of one direction is passed on, and the answer still arrives.
        let send = format!("nc -N {address} 9000 < ~/bulk");
        let sent = b.cmd("sh").args(["-c", &send]).deadline(Duration::from_secs(60)).run().unwrap();
        assert_eq!(sent.stdout, sum);
        println!("{} MB to {address}: {:.2} s", bulk() / 1_000_000, sent.took.as_secs_f64());
    }
    let refused = b.cmd("nc").args(["-v", "-w", "10", INVITER, "9999"]).try_run().unwrap();
    assert!(refused.stderr.contains("refused") && refused.took < FIRST_REPLY, "{refused}");

    let cmd = |program: &str| pair.user.cmd(program);
    let _dns = dns::serve(cmd, 5533, "home", NAMED).unwrap();
    let pages = pair.user.home().join("www");
    pair.user.ask(&format!("mkdir -p {0}; echo hello > {0}/index.html", pages.display())).unwrap();
    let _web = nginx::serve(pair.a.host(), cmd, &pages, "8080").unwrap();
    for url in [format!("http://{INVITER}:8080/"), format!("http://[{v6}]:8080/")] {
        assert_eq!(b.ask(&format!("curl -sSg {url}")).unwrap(), "hello\n");
    }
    let udp = format!(
        "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(5)
s.connect(('{INVITER}',5533)); send=s.send; receive=lambda: s.recv(4096)\n{QUERY}
c=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); c.settimeout(5); c.connect(('{INVITER}',5999)); c.send(b'x')
try: c.recv(1); raise SystemExit('answered by nobody')
except ConnectionRefusedError: print('refused')"
    );
    let udp = b.cmd("python3").args(["-c", &udp]).run().unwrap();
    assert_eq!(udp.stdout, "answered\nrefused\n");
}

#[test]
fn a_user_without_privileges_reaches_peers_through_nc_and_the_proxy() {
    let pair = Rootless::running("rootless-reaches");
    let _servers = pair.servers();
    let sum = bulk_file(|script| pair.user.ask(script));
    let sent = pair.shell("$PEERUP nc b 9000 < ~/bulk").run().unwrap();
    assert_eq!(sent.stdout, sum);
    println!("{} MB through nc: {:.2} s", bulk() / 1_000_000, sent.took.as_secs_f64());
    let refused = pair.a.cmd(["nc", JOINER, "9999"]).unwrap().try_run().unwrap();
    assert!(refused.code == Some(1) && refused.stderr.contains("refused"), "{refused}");

    let proxy = pair.a.cmd(["socks", "1080"]).unwrap().spawn().unwrap();
    proxy.wait_for_line("SOCKS5", Duration::from_secs(10)).unwrap();
    for url in ["http://b/", "http://b.peerup/", "http://10.64.0.2/"] {
        for how in ["--socks5-hostname", "--proxytunnel --proxy"] {
            let curl = format!("curl -sS {how} 127.0.0.1:1080 {url}");
            assert_eq!(pair.user.ask(&curl).unwrap(), "hello\n", "{curl}");
        }
    }
    let socks = "nc -N -X 5 -x 127.0.0.1:1080 10.64.0.2 9000 < ~/bulk";
    let sent = pair.user.cmd("sh").args(["-c", socks]).deadline(Duration::from_secs(60)).run().unwrap();
    assert_eq!(sent.stdout, sum);
    println!("{} MB through SOCKS5: {:.2} s", bulk() / 1_000_000, sent.took.as_secs_f64());
    let outside = "curl -sS --socks5-hostname 127.0.0.1:1080 http://203.0.113.22/";
    assert!(pair.user.ask(outside).is_err(), "what is outside is refused");
    let udp = format!(
        "import socket,struct\nt=socket.create_connection(('127.0.0.1',1080)); t.sendall(b'\\x05\\x01\\x00'); t.recv(2)
t.sendall(b'\\x05\\x03\\x00\\x01'+bytes(6)); r=t.recv(10); port=struct.unpack('>H',r[8:])[0]
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(5); s.connect(('127.0.0.1',port))
send=lambda q: s.send(b'\\x00\\x00\\x00\\x03\\x01b\\x00\\x35'+q); receive=lambda: s.recv(4096)[10:]\n{QUERY}"
    );
    assert_eq!(pair.user.cmd("python3").args(["-c", &udp]).run().unwrap().stdout, "answered\n");
}

#[test]
fn a_user_runs_real_programs_in_a_network_that_is_only_the_overlay() {
    let pair = Rootless::running("rootless-exec");
    let _servers = pair.servers();
    let exec = |words: &[&str]| pair.a.cmd([&["exec", "--"], words].concat()).unwrap();
    let closed = exec(&["true"]).try_run().unwrap();
    if closed.code != Some(0) {
        assert!(closed.stderr.contains("/dev/net/tun") && closed.stderr.contains("peerup nc"), "{closed}");
    }
    pair.user.open_tun().unwrap();
    exec(&["ping", "-c", "2", "-i", "0.2", JOINER]).run().unwrap();
    exec(&["ping", "-c", "2", "-i", "0.2", "b"]).run().unwrap();
    let v6 = pair.b.status().unwrap().own_ips().into_iter().find(|ip| ip.contains(':')).unwrap();
    exec(&["ping", "-c", "2", "-i", "0.2", &v6]).run().unwrap();
    assert_eq!(exec(&["curl", "-sS", "http://b.peerup/"]).run().unwrap().stdout, "hello\n");
    let sum = bulk_file(|script| pair.user.ask(script));
    let sent = exec(&["sh", "-c", "nc -N b 9000 < ~/bulk"]).deadline(Duration::from_secs(60)).run().unwrap();
    assert_eq!(sent.stdout, sum);
    println!("{} MB through exec: {:.2} s", bulk() / 1_000_000, sent.took.as_secs_f64());
    let udp = format!(
        "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(5)
s.connect(('b',53)); send=s.send; receive=lambda: s.recv(4096)\n{QUERY}"
    );
    assert_eq!(exec(&["python3", "-c", &udp]).run().unwrap().stdout, "answered\n");
    let outside = exec(&["ping", "-c", "1", "-W", "1", "203.0.113.22"]).try_run().unwrap();
    assert_ne!(outside.code, Some(0), "nothing but the overlay is reachable");
    assert_eq!(exec(&["sh", "-c", "exit 7"]).try_run().unwrap().code, Some(7));
    assert_eq!(exec(&["id", "-u"]).run().unwrap().stdout.trim(), "1000");
}

#[test]
fn a_user_runs_programs_that_reach_the_overlay_and_the_internet() {
    let pair = Rootless::running("rootless-internet");
    let _servers = pair.servers();
    let a = pair.a.host();
    // As with systemd-resolved: the resolver of the host listens on the host's loopback.
    a.ask("test -e /etc/resolv.conf && echo nameserver 127.0.0.1 > /etc/resolv.conf").unwrap();
    let _resolver = dns::serve(|program| a.cmd(program), 53, "www.example", "203.0.113.22").unwrap();
    pair.user.open_tun().unwrap();
    let exec = |words: &[&str]| pair.a.cmd([&["exec", "--with-internet", "--"], words].concat()).unwrap();
    for host in ["www.example", "203.0.113.22", "[2001:db8::22]", "b.peerup", JOINER] {
        let page = exec(&["curl", "-sSg", "--max-time", "20", &format!("http://{host}/")]).run().unwrap();
        assert_eq!(page.stdout, "hello\n", "{host}");
    }
    for host in ["203.0.113.22", "2001:db8::22", "b"] {
        exec(&["ping", "-c", "2", "-i", "0.2", host]).run().unwrap();
    }
    let nobody = exec(&["ping", "-c", "1", "-W", "1", "203.0.113.99"]).try_run().unwrap();
    assert_ne!(nobody.code, Some(0), "{nobody}");
    let sum = bulk_file(|script| pair.user.ask(script));
    let sent = exec(&["sh", "-c", "nc -N 203.0.113.22 9000 < ~/bulk"])
        .deadline(Duration::from_secs(60))
        .run()
        .unwrap();
    assert_eq!(sent.stdout, sum);
    let udp = format!(
        "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(5)
s.connect(('203.0.113.22',53)); send=s.send; receive=lambda: s.recv(4096)\n{QUERY}"
    );
    assert_eq!(exec(&["python3", "-c", &udp]).run().unwrap().stdout, "answered\n");
    let refused = exec(&["nc", "-v", "-w", "10", "203.0.113.22", "9999"]).try_run().unwrap();
    assert!(refused.stderr.contains("refused") && refused.took < FIRST_REPLY, "{refused}");
    // The other stack is this command's alone: without it nothing but the overlay is there.
    let closed =
        pair.a.cmd(["exec", "--", "curl", "-sS", "--max-time", "2", "http://203.0.113.22/"]).unwrap();
    assert_ne!(closed.try_run().unwrap().code, Some(0));
}

#[test]
fn a_node_that_is_closed_to_its_peers_still_reaches_them() {
    let pair = Rootless::running("rootless-closed");
    let (_digest, _servers) = (pair.serve_as_user(DIGEST), pair.servers());
    let b = pair.b.host();
    let knock = || b.cmd("nc").args(["-N", "-v", "-w", "10", INVITER, "9000"]).try_run().unwrap();
    assert_eq!(knock().stdout.trim().len(), 64, "open by default");
    pair.a.peerup(["config", "set", "vpn.inbound", "false"]).unwrap();
    let closed = || knock().stderr.contains("refused");
    b.wait_until("the node is closed", Duration::from_secs(10), closed).unwrap();
    b.cmd("ping").args(["-c", "1", INVITER]).run().unwrap();
    let page = pair.shell("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | $PEERUP nc b 80 | tail -1").run().unwrap();
    assert_eq!(page.stdout, "hello\n");
}

#[test]
fn ssh_goes_both_ways_and_through_a_namespace() {
    let pair = Rootless::running("rootless-ssh");
    pair.user.open_tun().unwrap();
    let (a, b) = (pair.a.host(), pair.b.host());
    let into_a = Sshd::start(a, b).unwrap();
    assert_eq!(into_a.ssh(INVITER, "hostname").run().unwrap().stdout, "a\n");
    let _into_b = Sshd::start(b, a).unwrap();
    // The key belongs to the user from here on.
    let keys = a.dir().join("ssh");
    a.ask(&format!("chown -R 1000:1000 {}", keys.display())).unwrap();
    let config = keys.join("config").display().to_string();
    let ssh = ["-F", &config, "-o", "ProxyCommand=$PEERUP nc %h %p"];
    let through_nc = pair.shell(&format!("export PEERUP; ssh {} b hostname", quoted(&ssh))).run().unwrap();
    assert_eq!(through_nc.stdout, "b\n");
    let through_exec =
        pair.a.cmd(["exec", "--", "ssh", "-F", &config, JOINER, "hostname"]).unwrap().run().unwrap();
    assert_eq!(through_exec.stdout, "b\n");
    let block = pair.a.peerup(["ssh-config"]).unwrap().stdout;
    assert!(block.contains("Host *.peerup b\n") && block.contains(" nc %h %p"), "{block}");
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("'{word}' ")).collect()
}

#[test]
fn two_thousand_connections_stand_at_once_and_a_reader_that_stops_costs_no_memory() {
    let pair = Rootless::running("rootless-many");
    let _digest = pair.serve_as_user(DIGEST);
    let many = format!(
        "import socket,resource,hashlib
resource.setrlimit(resource.RLIMIT_NOFILE,(4096,resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
all=[socket.create_connection(('{INVITER}',9000),20) for _ in range(2000)]
for n,c in enumerate(all): c.sendall(b'%d' % n); c.shutdown(socket.SHUT_WR)
for n,c in enumerate(all): assert c.makefile('rb').read().strip()==hashlib.sha256(b'%d' % n).hexdigest().encode(), n
print('all',len(all))"
    );
    let many =
        pair.b.host().cmd("python3").args(["-c", &many]).deadline(Duration::from_secs(90)).run().unwrap();
    assert_eq!(many.stdout, "all 2000\n");
    println!("2,000 connections: {:.1} s", many.took.as_secs_f64());

    let _deaf = pair.serve_as_user(
        "import socket,time\ns=socket.socket(); s.bind(('0.0.0.0',9001)); s.listen(9)
print('listening'); kept=[s.accept() for _ in range(5)]; time.sleep(60)",
    );
    let before = pair.memory();
    let flood = format!(
        "import socket,time
all=[socket.create_connection(('{INVITER}',9001)) for _ in range(5)]
end=time.time()+3
for c in all: c.setblocking(False)
sent=0
while time.time()<end:
    for c in all:
        try: sent+=c.send(bytes(1<<16))
        except BlockingIOError: time.sleep(.01)
print(sent)"
    );
    pair.b.host().cmd("python3").args(["-c", &flood]).run().unwrap();
    let grown = pair.memory().saturating_sub(before);
    println!("five readers that stopped: {grown} KiB more");
    assert!(grown < 32 * 1024, "{grown} KiB");
}

impl Rootless {
    /// Resident KiB of the user's daemon.
    fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.a.daemon_pid().unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn a_node_without_an_interface_keeps_up_with_one() {
    let pair = peerup_lab::peerup::Pair::direct("rootless-speed", crate::neighbours).unwrap();
    let _digest = listening(pair.a.host().cmd("python3").args(["-u", "-c", DIGEST]));
    let sum = bulk_file(|script| pair.b.host().ask(script));
    let send = format!("nc -N {INVITER} 9000 < ~/bulk");
    let transfer = || {
        let sent = pair.b.host().cmd("sh").args(["-c", &send]).deadline(Duration::from_secs(60));
        let sent = sent.run().unwrap();
        assert_eq!(sent.stdout, sum);
        sent.took.as_secs_f64()
    };
    let with_interface = transfer();
    pair.a.down().unwrap();
    pair.a.wait_for_no_daemon().unwrap();
    pair.a.peerup(["up", "--userspace"]).unwrap();
    pair.wait_for_class("direct", Duration::from_secs(20)).unwrap();
    let without = transfer();
    let ratio = with_interface / without;
    println!(
        "{} MB: {with_interface:.2} s with, {without:.2} s without an interface: {ratio:.2}",
        bulk() / 1_000_000
    );
    // The goal is 0.3; two busy cores and an unoptimised build get some slack.
    assert!(ratio > 0.2, "{ratio:.2}");
}
