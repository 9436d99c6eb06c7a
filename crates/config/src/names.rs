//! Names for peers that are unique on this machine.

use std::collections::BTreeSet;

use peerup_types::DnsLabel;

/// `wanted`, or `wanted-2`, `wanted-3`, ... when that name is taken. Two laptops may both call themselves
/// `laptop`; the second one to pair gets the suffix.
pub fn unique_name<'a>(existing: impl IntoIterator<Item = &'a DnsLabel>, wanted: &DnsLabel) -> DnsLabel {
    let taken: BTreeSet<&str> = existing.into_iter().map(DnsLabel::as_str).collect();
    let suffixed = (2usize..).map(|n| suffixed(wanted, n));
    std::iter::once(wanted.clone())
        .chain(suffixed)
        .find(|name| !taken.contains(name.as_str()))
        .expect("a finite set leaves a number free")
}

/// RFC 1035 §2.3.4.
const MAX_LABEL: usize = 63;

/// The base gives way where name and suffix together are longer than a label may be.
fn suffixed(base: &DnsLabel, number: usize) -> DnsLabel {
    let suffix = format!("-{number}");
    let room = base.as_str().len().min(MAX_LABEL - suffix.len());
    let base = base.as_str()[..room].trim_end_matches('-');
    format!("{base}{suffix}").parse().expect("a label cut short and a number form a label")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> DnsLabel {
        text.parse().unwrap()
    }

    #[test]
    fn a_free_name_stays_and_a_taken_one_counts_on() {
        let taken = [label("laptop"), label("laptop-2"), label("laptop-4")];
        assert_eq!(unique_name(&taken, &label("home")), label("home"));
        assert_eq!(unique_name(&taken, &label("laptop")), label("laptop-3"));
        let hundred: Vec<_> =
            std::iter::once(label("a")).chain((2..=100).map(|n| suffixed(&label("a"), n))).collect();
        assert_eq!(unique_name(&hundred, &label("a")), label("a-101"));
    }

    #[test]
    fn a_long_name_gives_way_to_its_suffix() {
        let long = label(&format!("{}-b", "a".repeat(61)));
        let unique = unique_name([&long], &long);
        assert_eq!(unique.as_str(), format!("{}-2", "a".repeat(61)));
    }
}
