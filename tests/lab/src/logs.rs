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
