//! A real nginx, as root or as a user.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::process::{Cmd, Process, Show};

/// Serves the files below `dir` on every address (`"80"`) or on one (`"127.0.0.1:8000"`). `cmd` runs a program as
/// whoever shall be the server, to whom `dir` belongs.
pub fn serve(host: &Host, cmd: impl Fn(&str) -> Cmd, dir: &Path, listen: &str) -> Result<Process> {
    cmd("mkdir").args(["-p".to_owned(), dir.display().to_string()]).show(Show::Nothing).run()?;
    let config = dir.join("nginx.conf");
    host.write(&config, text(dir, listen))?;
    let words = ["-c".to_owned(), config.display().to_string(), "-e".to_owned(), "stderr".to_owned()];
    let server = cmd("nginx").args(words).show(Show::Nothing).spawn()?;
    let (_, port) = listen.rsplit_once(':').unwrap_or(("", listen));
    let listening = || host.ask(&format!("ss -Htln sport = {port}")).is_ok_and(|line| !line.is_empty());
    host.wait_until("nginx listens", Duration::from_secs(10), listening).with_context(|| server.output())?;
    Ok(server)
}

/// One worker, which may be in a namespace with one user; nothing outside of `dir`.
fn text(dir: &Path, listen: &str) -> String {
    let both = if listen.contains(':') { String::new() } else { format!("listen [::]:{listen};") };
    let dir = dir.display();
    format!(
        "daemon off;
master_process off;
pid {dir}/nginx.pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {dir}/tmp; proxy_temp_path {dir}/tmp; fastcgi_temp_path {dir}/tmp;
    uwsgi_temp_path {dir}/tmp; scgi_temp_path {dir}/tmp;
    server {{ listen {listen}; {both} root {dir}; }}
}}
"
    )
}
