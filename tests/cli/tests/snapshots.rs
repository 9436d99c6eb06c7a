//! Every file in `cmd/` is a case. `[..]` stands for what differs between runs: peer IDs, times, the build.

use std::{env, path::PathBuf};

use peerup_cli_tests::peerup;
use trycmd::TestCases;

#[test]
fn the_command_line_says_what_the_snapshots_say() {
    let cases = TestCases::new();
    cases
        .register_bin("peerup", peerup())
        .register_bin("chmod", program("chmod"))
        .register_bin("cat", program("cat"))
        .register_bin("stat", program("stat"))
        .register_bin("cp", program("cp"))
        .env("HOME", "/nonexistent")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .env("PEERUP_CONFIG", "")
        .env("PEERUP_INVITE_CODE", "");
    cases.case("cmd/*.trycmd");
}

fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing"))
}
