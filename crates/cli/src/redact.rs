//! Text that is going to be shown to others: what opens a door is replaced, what identifies can be.

use std::{collections::BTreeMap, net::IpAddr};

/// Base32 of 40 characters and more is an invite code, or what was left of one.
const CODE_CHARS: usize = 40;
/// Hex of 64 digits: cookies, proofs, raw keys.
const HEX_CHARS: usize = 64;

/// Replaces secrets, and public addresses when told to; the same address gets the same stand-in throughout.
#[derive(Debug, Default)]
pub struct Redactor {
    hide_addresses: bool,
    addresses: BTreeMap<IpAddr, usize>,
}

impl Redactor {
    pub fn new(hide_addresses: bool) -> Self {
        Self { hide_addresses, addresses: BTreeMap::new() }
    }

    pub fn text(&mut self, text: &str) -> String {
        text.lines().map(|line| self.line(line) + "\n").collect()
    }

    fn line(&mut self, line: &str) -> String {
        let mut shown = String::with_capacity(line.len());
        let mut word = String::new();
        for letter in line.chars() {
            if is_part(letter) {
                word.push(letter);
                continue;
            }
            shown.push_str(&self.word(&std::mem::take(&mut word)));
            // Colours and cursor movements of whoever wrote the log stay there.
            shown.push(if letter.is_control() && letter != '\t' { ' ' } else { letter });
        }
        shown + &self.word(&word)
    }

    fn word(&mut self, word: &str) -> String {
        if is_secret(word) {
            return "[secret]".into();
        }
        if self.hide_addresses
            && let Some(shown) = self.address(word)
        {
            return shown;
        }
        word.to_owned()
    }

    /// `203.0.113.7`, `203.0.113.7:41000`, `2001:db8::7`.
    fn address(&mut self, word: &str) -> Option<String> {
        let (address, rest) = match word.parse::<IpAddr>() {
            Ok(address) => (address, ""),
            Err(_) => {
                let (address, port) = word.rsplit_once(':')?;
                (address.parse().ok()?, &word[word.len() - port.len() - 1..])
            }
        };
        if !is_public(address) {
            return None;
        }
        let next = self.addresses.len() + 1;
        let number = *self.addresses.entry(address).or_insert(next);
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        Some(format!("[{family}-{number}]{rest}"))
    }
}

/// What words consist of: dashes join the groups of a code, colons those of an address.
fn is_part(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | ':' | '.' | '+')
}

fn is_secret(word: &str) -> bool {
    let runs = |of: fn(char) -> bool| word.split(move |letter| !of(letter));
    let is_hex = |letter: char| letter.is_ascii_hexdigit();
    runs(is_hex).any(|run| run.len() >= HEX_CHARS)
        || runs(|letter| letter.is_ascii_alphanumeric() || letter == '-').any(is_code)
}

/// In upper case, as it is printed; with dashes in lower case too, as it may be typed.
fn is_code(run: &str) -> bool {
    let bare: String = run.chars().filter(|letter| *letter != '-').collect();
    let base32 =
        |text: &str| text.chars().all(|letter| letter.is_ascii_uppercase() || ('2'..='7').contains(&letter));
    bare.len() >= CODE_CHARS && (base32(&bare) || (run.contains('-') && base32(&bare.to_ascii_uppercase())))
}

/// Addresses that say nothing about where a machine is stay readable.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]);
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || shared)
        }
        IpAddr::V6(v6) => {
            !(v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";

    #[test]
    fn what_opens_a_door_is_replaced_and_the_rest_stays() {
        let code = ["AEAA", "CAQD", "AQCQ"].repeat(16).join("-");
        let hex = "0123456789abcdef".repeat(4);
        for secret in [code.clone(), code.to_lowercase(), code.replace('-', ""), hex.clone()] {
            for around in ["{}", "cookie={}", "\"{}\"", "Bearer {}", "join {} --name x"] {
                let shown = plain(&around.replace("{}", &secret));
                assert_eq!(shown, format!("{}\n", around.replace("{}", "[secret]")), "{around}");
            }
        }
        assert!(!plain(&format!("the code is {code}.")).contains("CAQD"));
        let line = format!("{ID} at 203.0.113.7:41000 sha256:65e20db1 group=deadbeef");
        assert_eq!(plain(&line), line.clone() + "\n");
    }

    #[test]
    fn public_addresses_keep_their_identity_and_lose_their_number() {
        let mut redactor = Redactor::new(true);
        let text = "/ip4/203.0.113.7/udp/1 203.0.113.7:41000 10.64.0.1 2001:db8::7 192.168.1.1 203.0.113.8";
        assert_eq!(
            redactor.text(text),
            "/ip4/[ipv4-1]/udp/1 [ipv4-1]:41000 10.64.0.1 [ipv6-2] 192.168.1.1 [ipv4-3]\n"
        );
    }

    proptest! {
        #[test]
        fn no_run_of_64_hex_digits_survives(before in "[ -~]{0,20}", hex in "[0-9a-f]{64,100}", after in "[ -~]{0,20}") {
            let text = format!("{before}{hex}{after}");
            prop_assert!(!plain(&text).contains(&hex));
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC*") {
            Redactor::new(true).text(&text);
        }
    }

    fn plain(text: &str) -> String {
        Redactor::new(false).text(text)
    }
}
