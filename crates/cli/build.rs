//! Puts commit, date and toolchain into the binary. Outside a git checkout both say `unknown`; the date is that of
//! the commit, so that one commit always builds the same binary.

use std::{env, process::Command};

fn main() {
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
    let date = output("git", &["log", "-1", "--format=%cs"]);
    let rustc = env::var("RUSTC").ok().and_then(|rustc| output(&rustc, &["--version"]));
    set("PEERUP_COMMIT", commit);
    set("PEERUP_BUILD_DATE", date);
    set("PEERUP_RUSTC", rustc);
    set("PEERUP_TARGET", env::var("TARGET").ok());
    // The log of HEAD grows with every commit and checkout.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = output("git", &["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
}

fn set(name: &str, value: Option<String>) {
    println!("cargo::rustc-env={name}={}", value.as_deref().unwrap_or("unknown"));
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
