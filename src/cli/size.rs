//! Sizes of memory as people write them: `4GiB`, `512MiB`, `1.5G`, `1073741824`.

/// Reads a size in bytes. `K`, `M`, `G`, `T` and `KiB` ... are powers of 1024, `KB` ... are powers of 1000.
///
/// # Errors
/// When it is no size, or none that a machine could have.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; right are for instance 4GiB, 512MiB, 1.5G or a number of bytes");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    // Whole numbers stay exact: a budget is compared byte by byte.
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor),
        Err(_) => match number.parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 && value * (factor as f64) < 2f64.powi(63) => {
                Some((value * factor as f64).round() as u64)
            }
            _ => None,
        },
    };
    bytes.filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("512MiB", 512 << 20),
            ("1.5G", 3 << 29),
            ("1.5g", 3 << 29),
            ("2GB", 2_000_000_000),
            ("123457", 123_457),
            ("7 MiB", 7 << 20),
            ("9007199254740993", 9_007_199_254_740_993),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "-1", "GiB", "1..5G", "4 bananas", "1e3", "99999999999T", "nan", "0.0001"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
