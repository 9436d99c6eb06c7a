//! Interface names that the kernel takes literally.

/// IFNAMSIZ less the terminating zero.
const MAX_LENGTH: usize = 15;

/// Whether Linux takes `name` as it is. `%` is left out: the kernel reads `tun%d` as a pattern.
pub(crate) fn is_interface_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%');
    (1..=MAX_LENGTH).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_refuse_or_rewrite_are_refused_first() {
        for good in ["peerup0", "a", "fifteen-letters", "wg.home", "x_1"] {
            assert!(is_interface_name(good), "{good}");
        }
        for bad in ["", ".", "..", "sixteen-letters-", "tun%d", "a b", "a/b", "eth0:1", "zwölf", "a\0", "a\n"]
        {
            assert!(!is_interface_name(bad), "{bad:?}");
        }
    }
}
