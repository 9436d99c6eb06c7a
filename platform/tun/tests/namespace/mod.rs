//! Runs a test inside a user and network namespace of its own.
//!
//! A namespace is entered before a process has threads, and libtest has many. So the test starts its own binary
//! again under unshare(1), for this one test, and passes or fails with it. The kernel removes the namespace with
//! its last process, whatever that process left in it.

use std::env;
use std::process::Command;

const INSIDE: &str = "PEERUP_TEST_INSIDE_NAMESPACE";

/// Runs `test` inside; `name` is the test's own name as libtest lists it.
pub fn inside(name: &str, test: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    let binary = env::current_exe().expect("a running test has a binary");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(binary)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("this test needs unshare(1) from util-linux");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        !stderr.contains("unshare: "),
        "this test needs user namespaces, and this host has them closed \
         (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, AppArmor): {stderr}"
    );
    let ran = stdout.contains("running 1 test");
    assert!(
        ran && output.status.success(),
        "{name} inside its namespace: {}\n{stdout}\n{stderr}",
        output.status
    );
}

/// The output of a shell command that has to succeed.
#[allow(dead_code, reason = "shared by several test binaries")]
pub fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("there is a shell");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
