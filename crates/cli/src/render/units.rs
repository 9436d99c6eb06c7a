//! Numbers with units, short enough for a column.

/// `512`, `1.2K`, `88M`, `14G`: three significant places at most, powers of 1024.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if count < 1024 {
        return count.to_string();
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1}{}", UNITS[unit]) } else { format!("{value:.0}{}", UNITS[unit]) }
}

/// `45s`, `3m12s`, `3h12m`, `2d4h`, `1d`.
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes < 1 => format!("{seconds}s"),
        () if hours < 1 => two_units(minutes, "m", seconds % 60, "s"),
        () if days < 1 => two_units(hours, "h", minutes % 60, "m"),
        () => two_units(days, "d", hours % 24, "h"),
    }
}

fn two_units(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

/// `now`, `45s ago`, `3h ago`, `2d ago`.
pub fn ago(seconds: u64) -> String {
    match seconds {
        0..5 => "now".into(),
        5..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// `0.6ms`, `12.4ms`, `61ms`.
pub fn millis(value: f64) -> String {
    if value < 50.0 { format!("{value:.1}ms") } else { format!("{value:.0}ms") }
}

/// `0%`, `0.4%`, `31%`.
pub fn share(loss: f64) -> String {
    let percent = loss * 100.0;
    if percent == 0.0 || percent >= 9.95 { format!("{percent:.0}%") } else { format!("{percent:.1}%") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_short_at_every_scale() {
        let shown = [0, 1023, 1024, 1_258_291, 92_274_688, 15_032_385_536, u64::MAX].map(bytes);
        assert_eq!(shown, ["0", "1023", "1.0K", "1.2M", "88M", "14G", "16E"]);
        assert_eq!(bytes(1023 * 1024), "1.0M");
    }

    #[test]
    fn durations_name_two_units() {
        let shown = [0, 59, 192, 11_520, 187_200, 86_400].map(duration);
        assert_eq!(shown, ["0s", "59s", "3m12s", "3h12m", "2d4h", "1d"]);
        assert_eq!([0, 59, 60, 7200, 200_000].map(ago), ["now", "59s ago", "1m ago", "2h ago", "2d ago"]);
    }

    #[test]
    fn ratios_and_round_trips_lose_digits_as_they_grow() {
        assert_eq!([0.6, 12.44, 61.2].map(millis), ["0.6ms", "12.4ms", "61ms"]);
        assert_eq!([0.0, 0.004, 0.31, 1.0].map(share), ["0%", "0.4%", "31%", "100%"]);
    }
}
