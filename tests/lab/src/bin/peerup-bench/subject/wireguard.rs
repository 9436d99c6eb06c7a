//! WireGuard in userspace: any program with the usual control socket, set up by `wg`.

use std::time::Duration;

use anyhow::Result;
use nix::unistd::Pid;
use peerup_lab::{Host, Process, Show};

use super::{A, B, INSIDE_A, INSIDE_B, Overlay, end, one_on_each};

const PORT: u16 = 51820;
/// What `wg-quick` takes on an underlay of 1500.
const MTU: u16 = 1420;

pub struct WireGuard {
    program: String,
    words: Vec<String>,
    a: Host,
    b: Host,
    _on_a: Process,
    on_b: Option<Process>,
}

impl WireGuard {
    pub fn start(a: &Host, b: &Host, program: &str, words: &[&str]) -> Result<Self> {
        let (key_a, key_b) = (Key::new(a)?, Key::new(b)?);
        write_config(a, &key_a, &key_b, INSIDE_B, B)?;
        write_config(b, &key_b, &key_a, INSIDE_A, A)?;
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let (on_a, on_b) = (run(a, program, &words, INSIDE_A)?, run(b, program, &words, INSIDE_B)?);
        let program = program.to_owned();
        Ok(Self { program, words, a: a.clone(), b: b.clone(), _on_a: on_a, on_b: Some(on_b) })
    }
}

impl Overlay for WireGuard {
    fn daemons(&self) -> Result<Vec<Pid>> {
        one_on_each([&self.a, &self.b], &self.program)
    }

    fn stop(&mut self) -> Result<()> {
        end(&mut self.on_b)?;
        // A killed one leaves its socket behind.
        self.b.ask("rm -f /var/run/wireguard/wg0.sock").map(drop)
    }

    fn start(&mut self) -> Result<()> {
        self.on_b = Some(run(&self.b, &self.program, &self.words, INSIDE_B)?);
        Ok(())
    }
}

struct Key {
    private: String,
    public: String,
}

impl Key {
    fn new(host: &Host) -> Result<Self> {
        let private = host.ask("wg genkey")?.trim().to_owned();
        let public = host.cmd("wg").arg("pubkey").stdin(private.clone()).show(Show::Nothing).run()?.stdout;
        Ok(Self { private, public: public.trim().to_owned() })
    }
}

fn write_config(host: &Host, own: &Key, other: &Key, inside: &str, underlay: &str) -> Result<()> {
    let text = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = {inside}/32\nEndpoint = {underlay}:{PORT}\n",
        own.private, other.public
    );
    host.write(&host.dir().join("wg.conf"), text)
}

fn run(host: &Host, program: &str, words: &[String], inside: &str) -> Result<Process> {
    let process = host.cmd(program).args(words.iter().cloned()).show(Show::Nothing).spawn()?;
    let ready = || host.ask("test -S /var/run/wireguard/wg0.sock && ip link show wg0").is_ok();
    host.wait_until("the WireGuard device", Duration::from_secs(5), ready)?;
    let config = host.dir().join("wg.conf");
    host.ask(&format!(
        "wg setconf wg0 {} && ip addr add {inside}/24 dev wg0 && ip link set wg0 mtu {MTU} up",
        config.display()
    ))?;
    Ok(process)
}
