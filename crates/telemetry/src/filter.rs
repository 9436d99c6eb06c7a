//! Which lines are worth writing.

use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::InitError;

/// The environment variable with the filter.
pub const ENVIRONMENT: &str = "PEERUP_LOG";

/// How loud peerup is when nobody asks for anything else.
const DEFAULT_LEVEL: &str = "info";

/// Libraries that log every failed dial of a race, every attribute that a newer kernel adds, or at each start that a
/// DHT of one's own has nobody in it yet. A directive covers all targets that start with its name, so `libp2p` stands for `libp2p_swarm` and its siblings.
const QUIET_LIBRARIES: &str = "libp2p=warn,libp2p_kad=error,multistream_select=warn,yamux=warn,quinn=warn,hickory=warn,netlink_proto=warn,netlink_packet=error";

pub(crate) fn from_environment(value: Option<String>) -> Result<EnvFilter, InitError> {
    let value = value.as_deref().map_or("", str::trim);
    let text = match value {
        "" => format!("{DEFAULT_LEVEL},{QUIET_LIBRARIES}"),
        level if is_level(level) => format!("{level},{QUIET_LIBRARIES}"),
        directives => directives.to_owned(),
    };
    EnvFilter::try_new(text).map_err(|source| InitError::Filter { value: value.to_owned(), source })
}

/// A bare level turns peerup up or down and leaves the libraries where they are.
fn is_level(value: &str) -> bool {
    value.parse::<Level>().is_ok()
}

#[cfg(test)]
mod tests {
    use tracing::enabled;

    use super::*;

    #[test]
    fn without_a_wish_peerup_speaks_at_info_and_libp2p_at_warn() {
        assert_eq!(from_environment(None).unwrap().to_string(), filter("info"));
        assert_eq!(filter(" "), filter("info"));
        with_filter(None, || {
            assert!(enabled!(target: "peerup_daemon", Level::INFO));
            assert!(!enabled!(target: "peerup_daemon", Level::DEBUG));
            assert!(enabled!(target: "libp2p_swarm", Level::WARN));
            assert!(!enabled!(target: "libp2p_swarm", Level::INFO));
        });
    }

    #[test]
    fn a_bare_level_leaves_the_libraries_quiet() {
        with_filter(Some("debug"), || {
            assert!(enabled!(target: "peerup_daemon", Level::DEBUG));
            assert!(!enabled!(target: "libp2p_swarm", Level::DEBUG));
        });
    }

    #[test]
    fn directives_are_taken_as_they_are() {
        assert_eq!(filter("libp2p_swarm=trace"), "libp2p_swarm=trace");
    }

    #[test]
    fn nonsense_is_refused_with_its_text() {
        let error = from_environment(Some("peerup=loud".into())).unwrap_err();
        assert_eq!(error.to_string(), "PEERUP_LOG=\"peerup=loud\" is not a log filter");
        assert!(error.hint().is_some());
    }

    fn filter(value: &str) -> String {
        from_environment(Some(value.into())).unwrap().to_string()
    }

    fn with_filter(value: Option<&str>, checks: impl FnOnce()) {
        let filter = from_environment(value.map(Into::into)).unwrap();
        let subscriber =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::sink).finish();
        tracing::subscriber::with_default(subscriber, checks);
    }
}
