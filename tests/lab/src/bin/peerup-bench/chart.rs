//! A run as a picture: bars of medians with their least and most, one panel for each figure. SVG, so that it stays small and sharp.

use std::fmt::Write;

use crate::profile::Profile;
use crate::record::{Metric, Run};
use crate::stats::Spread;
use crate::subject::Subject;

const WIDTH: f64 = 760.0;
const LABELS: f64 = 130.0;
/// Room for the number behind the longest bar.
const NUMBERS: f64 = 70.0;
const ROW: f64 = 18.0;
const TITLE: f64 = 34.0;

/// The figures worth a picture.
const PANELS: [(Profile, Metric); 11] = [
    (Profile::Cable, Metric::Tcp1),
    (Profile::Cable, Metric::DaemonCpu),
    (Profile::Cable, Metric::LoadedP99),
    (Profile::Cable, Metric::Udp),
    (Profile::NoOffload, Metric::Tcp1),
    (Profile::Low, Metric::Tcp1),
    (Profile::Medium, Metric::Tcp1),
    (Profile::Lte, Metric::Tcp1),
    (Profile::LossyWan, Metric::Tcp1),
    (Profile::Sat, Metric::Tcp1),
    (Profile::Bufferbloat, Metric::LoadedP99),
];

/// `None` when nothing of it was measured.
pub fn svg(run: &Run) -> Option<String> {
    let mut body = String::new();
    let mut y = 0.0;
    for (profile, metric) in PANELS {
        let bars = bars(run, profile, metric);
        if !bars.is_empty() {
            y = panel(&mut body, y, &format!("{}: {}", profile.name(), metric.text()), &bars);
        }
    }
    (y > 0.0).then(|| {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
        )
    })
}

fn bars(run: &Run, profile: Profile, metric: Metric) -> Vec<(Subject, Spread)> {
    let subjects = run.subjects(profile).into_iter();
    subjects
        .filter_map(|subject| Some((subject, Spread::of(&run.values(profile, subject, metric))?)))
        .collect()
}

/// Draws one panel below `top`; where the next one begins.
fn panel(body: &mut String, top: f64, title: &str, bars: &[(Subject, Spread)]) -> f64 {
    let most = bars.iter().map(|(_, spread)| spread.most).fold(0.0, f64::max);
    let scale = if most > 0.0 { (WIDTH - LABELS - NUMBERS) / most } else { 0.0 };
    let _ = writeln!(
        body,
        "<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>",
        top + TITLE - 12.0,
        escaped(title)
    );
    let mut y = top + TITLE;
    for (subject, spread) in bars {
        bar(body, y, scale, *subject, spread);
        y += ROW;
    }
    y + 8.0
}

fn bar(body: &mut String, y: f64, scale: f64, subject: Subject, spread: &Spread) {
    let (middle, text_y) = (y + ROW / 2.0 - 2.0, y + ROW - 6.0);
    let (width, least, most) = (spread.median * scale, spread.least * scale, spread.most * scale);
    let colour = match subject {
        Subject::Raw | Subject::RawBbr => "#9aa0a6",
        _ if subject.is_peerup() => "#1a73e8",
        _ => "#e8a33d",
    };
    let name = subject.name();
    let _ = writeln!(
        body,
        "<text x=\"{x}\" y=\"{text_y}\" text-anchor=\"end\">{name}</text>\
         <rect x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>\
         <path d=\"M{from:.1} {middle}H{to:.1}\" stroke=\"#202124\"/>\
         <text x=\"{behind:.1}\" y=\"{text_y}\">{value}</text>",
        x = LABELS - 6.0,
        height = ROW - 4.0,
        from = LABELS + least,
        to = LABELS + most,
        behind = LABELS + most + 6.0,
        value = short(spread.median),
    );
}

fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    #[test]
    fn the_longest_bar_fills_the_panel_and_the_others_are_in_proportion() {
        let mut run = Run::default();
        for (subject, value) in [(Subject::Raw, 400.0), (Subject::Peerup, 100.0)] {
            let (round, profile, metric) = (1, Profile::Cable, Metric::Tcp1);
            run.records.push(Record { round, profile, subject, metric, value });
        }
        let svg = svg(&run).unwrap();
        assert!(svg.contains("cable: TCP ×1, Mbit/s"), "{svg}");
        assert!(svg.contains("width=\"560.0\"") && svg.contains("width=\"140.0\""), "{svg}");
        assert_eq!(svg.matches("<rect x=").count(), 2);
    }

    #[test]
    fn nothing_measured_makes_no_picture() {
        assert_eq!(svg(&Run::default()), None);
    }

    #[test]
    fn titles_are_text_and_not_markup() {
        assert_eq!(escaped("a < b & c"), "a &lt; b &amp; c");
    }
}
