//! How figures and text tables are written.

use crate::report::format::*;
use crate::report::table::{Row, Table};

#[test]
fn percentages_have_the_digits_they_deserve() {
    let cases = [
        (0.0, "0%"),
        (1.0, "100%"),
        (0.9996, "100.0%"),
        (0.42, "42.0%"),
        (0.0412, "4.1%"),
        (0.00996, "1.0%"),
        (0.001234, "0.12%"),
        (0.0000123, "0.0012%"),
        (0.000_000_99, "9.9e-5%"),
        (51.2, "5,120%"),
        (1.5, "150.0%"),
        (-0.031, "-3.1%"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "∞"),
        (f64::NEG_INFINITY, "-∞"),
    ];
    for (value, text) in cases {
        assert_eq!(percent(value), text, "{value}");
    }
    assert_eq!(tick_percent(0.2), "20%");
    assert_eq!(tick_percent(1e-8), "1e-6%");
    assert_eq!(signed_tick_percent(0.025), "+2.5%");
    assert_eq!(percent(1.2e-9), "1.2e-7%");
    assert_eq!(signed_percent(0.018), "+1.8%");
    assert_eq!(signed_percent(-0.018), "-1.8%");
    assert_eq!(signed_percent(0.0), "0%");
}

#[test]
fn numbers_have_four_digits_and_exponents_where_needed() {
    let cases = [
        (0.0, "0"),
        (12.35, "12.35"),
        (10.0, "10"),
        (3.14451, "3.145"),
        (0.00123456, "0.001235"),
        (1234.56, "1,235"),
        (999_999.0, "999,999"),
        (1.0e6, "1e6"),
        (0.000_012_34, "1.23e-5"),
        (-2.5, "-2.5"),
        (9.99996, "10"),
        (f64::NAN, "NaN"),
    ];
    for (value, text) in cases {
        assert_eq!(number(value), text, "{value}");
    }
    assert_eq!(ratio(3.25), "3.25×");
    assert_eq!(fixed(2.0, 3), "2.000");
    assert_eq!(fixed(f64::INFINITY, 3), "∞");
}

#[test]
fn counts_bytes_and_times_have_units() {
    assert_eq!(count(134_515_008), "134,515,008");
    assert_eq!(count(999), "999");
    assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    assert_eq!(counted(1, "probe"), "1 probe");
    assert_eq!(counted(1200, "probe"), "1,200 probes");
    for (value, text) in
        [(950.0, "950"), (999.9, "1k"), (12_345.0, "12.3k"), (134_515_008.0, "135M"), (7.24e9, "7.24B"), (0.5, "0.5")]
    {
        assert_eq!(short_count(value), text);
    }
    for (value, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1_610_612_736, "1.5 GiB"),
        (4 << 30, "4 GiB"),
        ((1 << 20) - 1, "1 MiB"),
        (u64::MAX, "16 EiB"),
    ] {
        assert_eq!(bytes(value), text, "{value}");
    }
    for (value, text) in [
        (0.0, "0 s"),
        (0.00042, "0.42 ms"),
        (0.34, "340 ms"),
        (0.9999, "1.0 s"),
        (12.34, "12.3 s"),
        (59.99, "1 min 00 s"),
        (125.0, "2 min 05 s"),
        (3720.0, "1 h 02 min"),
        (3599.9, "1 h 00 min"),
        (f64::NAN, "NaN"),
    ] {
        assert_eq!(seconds(value), text, "{value}");
    }
}

#[test]
fn a_table_aligns_and_leaves_no_trailing_space() {
    let mut table = Table::new(&["form", ">probes", "note"]);
    table.row(["question", "24", "seen"]);
    table.row(["漢字", "1,024", ""]);
    let expected = "form      probes  note\n────────  ──────  ────\nquestion      24  seen\n漢字       1,024\n";
    assert_eq!(table.to_text(None), expected);
}

#[test]
fn a_table_gives_way_in_its_texts_and_never_in_its_figures() {
    let mut table = Table::new(&["file", ">weights", "kind"]);
    table.heading("x".repeat(200));
    table.row(["a/very/long/path/to/some/file/of/probes.jsonl", "134,515,008", "statement and question"]);
    for width in [50, 60, 80] {
        let text = table.to_text(Some(width));
        assert!(text.contains("134,515,008"), "{text}");
        assert!(text.lines().all(|l| l.chars().count() <= width), "{width}\n{text}");
    }
    // Narrower than possible: figures stay whole, the line is too long.
    assert!(table.to_text(Some(10)).contains("134,515,008"));
}

#[test]
fn rows_may_be_short_or_long() {
    let mut table = Table::new(&["a", ">b"]);
    assert!(table.is_empty());
    table.row(["only"]);
    table.row(["x", "1", "beyond the last column"]);
    assert_eq!(table.to_text(None), "a     b\n────  ─\nonly\nx     1\n");
    assert_eq!(table.rows.len(), 2);
    assert!(matches!(&table.rows[0], Row::Cells(c) if c.len() == 1));
    assert_eq!(Table::default().to_text(Some(80)), "\n\n");
}
