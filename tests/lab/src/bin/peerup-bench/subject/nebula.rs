//! nebula with its defaults: host `b` is the lighthouse.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Pid;
use peerup_lab::{Host, Process, Show};

use super::{B, INSIDE_A, INSIDE_B, Overlay, end, one_on_each};

const PORT: u16 = 4242;

pub struct Nebula {
    program: String,
    a: Host,
    b: Host,
    _on_a: Process,
    on_b: Option<Process>,
}

impl Nebula {
    pub fn start(a: &Host, b: &Host, program: &str) -> Result<Self> {
        certify(a, b, program)?;
        a.write(&a.dir().join("nebula.yml"), config(a, false))?;
        b.write(&b.dir().join("nebula.yml"), config(b, true))?;
        let on_b = run(b, program)?;
        let on_a = run(a, program)?;
        let program = program.to_owned();
        Ok(Self { program, a: a.clone(), b: b.clone(), _on_a: on_a, on_b: Some(on_b) })
    }
}

impl Overlay for Nebula {
    fn daemons(&self) -> Result<Vec<Pid>> {
        one_on_each([&self.a, &self.b], &self.program)
    }

    fn stop(&mut self) -> Result<()> {
        end(&mut self.on_b)
    }

    fn start(&mut self) -> Result<()> {
        self.on_b = Some(run(&self.b, &self.program)?);
        Ok(())
    }
}

/// An authority and two certificates; hosts of one laboratory read each other's directories.
fn certify(a: &Host, b: &Host, program: &str) -> Result<()> {
    let tool = format!("{program}-cert");
    let (at, bt) = (a.dir().display().to_string(), b.dir().display().to_string());
    a.ask(&format!(
        "{tool} ca -name bench -out-crt {at}/ca.crt -out-key {at}/ca.key
         for pair in {at}:{INSIDE_A} {bt}:{INSIDE_B}; do
           dir=${{pair%:*}}
           {tool} sign -name ${{dir##*/}} -ip ${{pair##*:}}/24 -ca-crt {at}/ca.crt -ca-key {at}/ca.key \
             -out-crt $dir/host.crt -out-key $dir/host.key
         done
         cp {at}/ca.crt {bt}/ca.crt"
    ))
    .map(drop)
    .context("nebula's certificates")
}

fn config(host: &Host, is_lighthouse: bool) -> String {
    let dir = host.dir().display().to_string();
    let lighthouses = if is_lighthouse { String::new() } else { format!("\"{INSIDE_B}\"") };
    format!(
        "pki: {{ca: {dir}/ca.crt, cert: {dir}/host.crt, key: {dir}/host.key}}
static_host_map: {{\"{INSIDE_B}\": [\"{B}:{PORT}\"]}}
lighthouse: {{am_lighthouse: {is_lighthouse}, hosts: [{lighthouses}]}}
listen: {{host: 0.0.0.0, port: {PORT}}}
tun: {{dev: nebula0}}
firewall:
  outbound: [{{port: any, proto: any, host: any}}]
  inbound: [{{port: any, proto: any, host: any}}]
"
    )
}

fn run(host: &Host, program: &str) -> Result<Process> {
    let config = host.dir().join("nebula.yml").display().to_string();
    let process = host.cmd(program).args(["-config", &config]).show(Show::Nothing).spawn()?;
    let ready = || host.ask("ip -o addr show nebula0 | grep -q inet").is_ok();
    host.wait_until("nebula's device", Duration::from_secs(5), ready)?;
    Ok(process)
}
