//! What a bug report shows and what it does not.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{fs, os::unix::fs::PermissionsExt};

use peerup_cli_tests::{code, run, stdout, write};
use tempfile::TempDir;

const ID: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";

#[test]
fn a_bug_report_holds_no_secret_of_the_node() {
    let dir = TempDir::new().unwrap();
    assert_eq!(code(&run(dir.path(), &["init", "--non-interactive", "--dir", ".", "--name", "laptop"])), 0);
    let (cookie, proof) =
        ("c0".repeat(32), "d3398af5b7fe7abb28196346affe69a4bce110d2fb01045ed88f662af51fc9e8");
    let code_text = ["AEAA", "CAQD", "AQCQ", "MB6L"].repeat(12).join("-");
    write(&dir.path().join(".daemon-cookie"), &cookie);
    write(
        &dir.path().join("authorized_keys"),
        &format!("{ID}  hmac_proof={proof}  # anna's private laptop\n"),
    );
    let log = format!(
        "INFO asked with Bearer {cookie}\nINFO join {code_text}\nWARN the peer is at 203.0.113.9:41000\n"
    );
    write(&dir.path().join("peerup.log"), &log);

    let output = run(dir.path(), &["bugreport", "--hide-addresses", "--config", "config.yaml"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let report = stdout(&output);
    let key = fs::read(dir.path().join("identity.key")).unwrap();
    let key_hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    for secret in [cookie.as_str(), proof, &code_text, &key_hex[8..40], "anna", "203.0.113.9"] {
        assert!(!report.contains(secret), "{secret}: {report}");
    }
    for useful in
        ["== doctor", ID, "hmac_proof", "name: laptop", "Bearer [secret]", "[ipv4-1]:41000", "identity.key"]
    {
        assert!(report.contains(useful), "{useful}: {report}");
    }

    let to_file = run(dir.path(), &["bugreport", "-o", "report.txt", "--config", "config.yaml"]);
    assert_eq!(code(&to_file), 0, "{to_file:?}");
    assert_eq!(fs::metadata(dir.path().join("report.txt")).unwrap().permissions().mode() & 0o777, 0o600);
}
