//! How figures are written, everywhere: in tables, in pictures and in sentences.

/// A share as a percentage with the digits that its size deserves: `0.42` is `42.0%`, `0.000012` is `0.0012%`.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    let size = value.abs();
    if !value.is_finite() {
        return not_finite(value);
    }
    match size {
        0.0 => "0%".into(),
        _ if size >= 1000.0 => format!("{}%", group_digits(&format!("{value:.0}"))),
        _ if size == 100.0 => format!("{value:.0}%"),
        _ if size >= 0.995 => format!("{value:.1}%"),
        _ if size >= 0.0995 => format!("{value:.2}%"),
        _ if size >= 0.000_995 => format!("{}%", significant(value, 2)),
        _ => format!("{}%", exponential(value, 1)),
    }
}

/// A round share, as axes have them, without needless zeros: `20%`.
pub fn tick_percent(share: f64) -> String {
    let text = percent(share);
    match text.strip_suffix('%') {
        Some(figure) if !figure.contains('e') => format!("{}%", trim_zeros(figure)),
        _ => text,
    }
}

/// A round difference of shares, as axes have them: `+2%`.
pub fn signed_tick_percent(share: f64) -> String {
    let text = tick_percent(share);
    if share > 0.0 { format!("+{text}") } else { text }
}

/// A difference of shares in percent, always with its sign: `+1.8%`.
pub fn signed_percent(share: f64) -> String {
    let text = percent(share);
    if share > 0.0 { format!("+{text}") } else { text }
}

/// A factor: `3.2×`.
pub fn ratio(value: f64) -> String {
    format!("{}×", number(value))
}

/// A figure with four significant digits and no trailing zeros; very small and very large ones as `1.23e-5`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        not_finite(value)
    } else if size == 0.0 {
        "0".into()
    } else if !(1e-3..1e6).contains(&size) {
        scientific(value)
    } else if size >= 1000.0 {
        group_digits(&format!("{value:.0}"))
    } else {
        trim_zeros(&significant(value, 4))
    }
}

/// A figure as `1.23e-5`.
pub fn scientific(value: f64) -> String {
    if !value.is_finite() {
        return not_finite(value);
    }
    exponential(value, 2)
}

/// A figure with a fixed number of decimals, for columns that are compared line by line.
pub fn fixed(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { not_finite(value) }
}

/// A whole number with its digits in threes: `134,515,008`.
pub fn count(value: u64) -> String {
    group_digits(&value.to_string())
}

/// A whole number in a few characters: `950`, `12.3k`, `135M`, `7.2B`.
pub fn short_count(value: f64) -> String {
    if !value.is_finite() {
        return not_finite(value);
    }
    let (scaled, unit) = match value.abs() {
        size if size >= 999.5e6 => (value / 1e9, "B"),
        size if size >= 999.5e3 => (value / 1e6, "M"),
        size if size >= 999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = if scaled.abs() >= 100.0 { format!("{scaled:.0}") } else { significant(scaled, 3) };
    format!("{}{unit}", trim_zeros(&text))
}

/// Bytes in binary units: `512 B`, `1.5 GiB`.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut scaled = value as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let text = if scaled >= 99.95 { format!("{scaled:.0}") } else { trim_zeros(&format!("{scaled:.1}")) };
    format!("{text} {}", UNITS[unit])
}

/// A duration: `340 ms`, `12.3 s`, `2 min 05 s`, `1 h 02 min`.
pub fn seconds(value: f64) -> String {
    if !value.is_finite() {
        return not_finite(value);
    }
    match value {
        0.0 => "0 s".into(),
        v if v < 0.9995 => format!("{} ms", trim_zeros(&significant(v * 1e3, 3))),
        v if v < 59.95 => format!("{v:.1} s"),
        v if v < 3599.5 => {
            let whole = v.round() as u64;
            format!("{} min {:02} s", whole / 60, whole % 60)
        }
        v => {
            let minutes = (v / 60.0).round() as u64;
            format!("{} h {:02} min", count(minutes / 60), minutes % 60)
        }
    }
}

/// `1 probe`, `12 probes`: a counted noun whose plural takes an s.
pub fn counted(value: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(value), if value == 1 { "" } else { "s" })
}

/// A finite figure with an exponent and at most so many decimals.
fn exponential(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!("{}e{exponent}", trim_zeros(mantissa)),
        None => text,
    }
}

fn not_finite(value: f64) -> String {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "∞"
    } else {
        "-∞"
    }
    .into()
}

/// `value` (finite, not zero) with so many significant digits, without an exponent.
fn significant(value: f64, digits: i32) -> String {
    // Let the exponent format round first: 9.996 with three digits is 10.0 and has another magnitude.
    let rounded = format!("{value:.*e}", digits.max(1) as usize - 1);
    let magnitude: i32 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    format!("{value:.*}", (digits - 1 - magnitude).max(0) as usize)
}

fn trim_zeros(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

fn group_digits(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut out = String::from(sign);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}
