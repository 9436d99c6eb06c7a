//! A laboratory that waits to be killed: what is left of it then is another program's question.

use std::io::Write;

use anyhow::Result;
use peerup_lab::tools::iperf::Iperf;
use peerup_lab::{Host, Impairment, Lab, NatKind};

/// Says which processes it holds, in one line, and waits.
pub fn run() -> Result<()> {
    let mut lab = Lab::new("victim")?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    lab.wire((&a, "10.9.0.1/24"), (&b, "10.9.0.2/24"), &Impairment::default())?;
    let nat = lab.nat("nat", NatKind::Symmetric, "192.168.1.0/24")?;
    let _server = Iperf::on(&b).serve()?;
    // A daemon that detaches from everything that could take it along.
    a.ask("setsid sh -c 'sleep 600 & sleep 600' >/dev/null 2>&1 </dev/null &")?;
    let everyone = [&a, &b, nat.router()].into_iter().flat_map(Host::programs);
    let pids: Vec<_> = everyone.map(|(pid, _)| pid.to_string()).collect();
    writeln!(std::io::stdout(), "HOLDS {}", pids.join(" "))?;
    loop {
        std::thread::park();
    }
}
