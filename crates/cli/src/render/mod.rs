//! Values as people read them. Pure: what to print comes in, text goes out.

pub mod path;
pub mod status;
pub mod table;
pub mod units;
pub mod why;

use peerup_types::PeerId;

/// What stands for a peer that has no name: the end of its ID, because all Ed25519 IDs begin alike.
pub fn short_id(id: &PeerId) -> String {
    let text = id.to_string();
    let start = text.len().saturating_sub(8);
    format!("…{}", &text[start..])
}

pub fn name_of(name: Option<&str>, id: &PeerId) -> String {
    name.map_or_else(|| short_id(id), str::to_owned)
}

/// A QR code of half blocks, two rows of modules per line; `None` when the text does not fit.
pub fn qr(text: &str) -> Option<String> {
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L).ok()?;
    Some(code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_id_is_the_end_of_the_id() {
        let id: PeerId = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx".parse().unwrap();
        assert_eq!(short_id(&id), "…NSv5bcCx");
        assert_eq!(name_of(Some("home"), &id), "home");
    }

    #[test]
    fn a_code_fits_into_a_qr_code_and_a_novel_does_not() {
        assert!(qr(&"ABCD-".repeat(46)).unwrap().contains('█'));
        assert_eq!(qr(&"x".repeat(5000)), None);
    }
}
