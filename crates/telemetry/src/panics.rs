//! Panics are logged where they happen and counted for status and tests.

use std::any::Any;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics of this process so far, caught or not.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Replaces the standard hook: its free-form text would break the log's lines.
pub(crate) fn install_hook() {
    panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, message = message(info.payload()), thread = thread::current().name(), "panic");
}

/// `panic!` carries a `&str` or a `String`; `panic_any` may carry anything.
fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a payload that is no text")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_caught_panic_is_counted_and_logged_with_its_place() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let before = panics();
        let standard = panic::take_hook();
        install_hook();
        tracing::subscriber::with_default(subscriber, || {
            panic::catch_unwind(|| panic!("on purpose, {}", 1 + 1)).unwrap_err();
        });
        panic::set_hook(standard);
        assert_eq!(panics(), before + 1);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("ERROR") && text.contains("panic"), "{text}");
        assert!(text.contains("on purpose, 2") && text.contains("panics.rs:"), "{text}");
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
