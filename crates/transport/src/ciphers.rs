//! Which AEAD is proposed first.

use rustls::{
    SupportedCipherSuite,
    crypto::aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    },
};

/// The order in which cipher suites are proposed and, by a listener, chosen.
///
/// With AES and carry-less multiplication in the CPU, AES-128-GCM costs about a sixth of ChaCha20-Poly1305; without
/// them ChaCha20 is several times faster, and does not leak through cache timing. All suites are always
/// offered, so that either order connects to every peer (RFC 8446, 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherOrder {
    AesFirst,
    ChaChaFirst,
}

impl CipherOrder {
    /// The order for the CPU that runs this process.
    pub fn of_this_cpu() -> Self {
        if has_aes() { Self::AesFirst } else { Self::ChaChaFirst }
    }

    pub(crate) fn suites(self) -> Vec<SupportedCipherSuite> {
        match self {
            Self::AesFirst => {
                vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256]
            }
            Self::ChaChaFirst => {
                vec![TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384]
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}
