//! Which build this is.

/// The version that goes to peers and into the API.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
pub const COMMIT: &str = env!("PEERUP_COMMIT");
pub const BUILD_DATE: &str = env!("PEERUP_BUILD_DATE");
pub const RUSTC: &str = env!("PEERUP_RUSTC");
pub const TARGET: &str = env!("PEERUP_TARGET");

/// What follows `peerup ` in `peerup --version`; two lines.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("PEERUP_COMMIT"),
    ") built ",
    env!("PEERUP_BUILD_DATE"),
    "\n",
    env!("PEERUP_RUSTC"),
    " on ",
    env!("PEERUP_TARGET"),
);
