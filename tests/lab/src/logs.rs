//! What programs under test wrote, kept for whoever looks at a failure (`PEERUP_LAB_LOGS`, one directory per test).

use std::io::Write;
use std::path::PathBuf;

/// Appends to `<PEERUP_LAB_LOGS>/<test>/<host>-<name>.log`, where that is wanted.
pub(crate) fn keep(host: &str, name: &str, text: &str) {
    let Some(dir) = directory() else { return };
    if text.is_empty() || std::fs::create_dir_all(&dir).is_err() {
        return;
    }
    let path = dir.join(format!("{host}-{name}.log"));
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(text.as_bytes()));
}

fn directory() -> Option<PathBuf> {
    let root = std::env::var_os("PEERUP_LAB_LOGS").filter(|root| !root.is_empty())?;
    // A test that is alone in its process runs on the main thread, which does not bear its name.
    let named = std::env::var("NEXTEST_TEST_NAME").ok();
    let test = named.or_else(|| std::thread::current().name().map(str::to_owned)).unwrap_or_default();
    Some(PathBuf::from(root).join(test.replace("::", ".")))
}

/// The lines of a log that tell of a panic: those of Rust's own hook, and those of peerup's.
pub fn panics(log: &str) -> Vec<&str> {
    let told = |line: &&str| line.contains("panicked at") || line.contains("peerup_telemetry::panics");
    log.lines().filter(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_in_either_form() {
        let lines = [
            "thread 'main' panicked at src/main.rs:1:1:",
            r#"2026-11-20T15:14:07Z ERROR peerup_telemetry::panics: panic location="src/a.rs:1:1" message="no""#,
        ];
        let log = format!("{}\nnothing else\n{}\n", lines[0], lines[1]);
        assert_eq!(panics(&log), lines);
    }
}
