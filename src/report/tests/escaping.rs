//! Foreign text stays text.

use super::{markup, sample};
use crate::report::escape;
use crate::report::forget::{render_html, render_json, render_text};
use crate::report::html::{Document, Tone};
use crate::report::table::Table;

#[test]
fn markup_characters_become_entities_and_controls_are_replaced() {
    assert_eq!(escape::markup("<a href='x'>&\"\n\t"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\n\t");
    assert_eq!(escape::markup("a\u{0}b\u{1b}c\u{202e}d\r"), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}");
    assert_eq!(escape::markup("žluťoučký 漢字 🙂"), "žluťoučký 漢字 🙂");
}

#[test]
fn terminal_text_is_one_line_without_control_sequences() {
    assert_eq!(escape::terminal("a\nb\r\nc\td\u{1b}[2J\u{9b}"), "a b c d\u{fffd}[2J\u{fffd}");
}

#[test]
fn widths_count_columns_and_cuts_keep_to_them() {
    assert_eq!(escape::width("abc"), 3);
    assert_eq!(escape::width("漢字"), 4);
    assert_eq!(escape::width("e\u{301}"), 1);
    assert_eq!(escape::shorten("abcdef", 4), "abc…");
    assert_eq!(escape::shorten("abcd", 4), "abcd");
    assert_eq!(escape::shorten_middle("models/layer/weights.bin", 10), "mod…ts.bin");
    for columns in 0..12 {
        assert!(escape::width(&escape::shorten_middle("漢字漢字漢字漢", columns)) <= columns.max(1), "{columns}");
    }
}

#[test]
fn a_hostile_report_is_a_well_formed_page_without_its_tags() {
    let page = render_html(&sample::hostile());
    markup::check(&page).unwrap();
    assert!(!page.contains("<script") && !page.contains("onload=x>"));
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"));
    let text = render_text(&sample::hostile(), Some(100));
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    assert!(serde_json::from_str::<serde_json::Value>(&render_json(&sample::hostile())).is_ok());
}

#[test]
fn every_part_of_a_document_escapes() {
    let evil = "</title></style><b>\"'&";
    let mut page = Document::new(evil, evil, evil, Tone::Plain);
    page.lead(evil);
    page.section(evil);
    page.subsection(evil);
    page.paragraph(evil);
    page.note(Tone::Bad, evil);
    page.settings(&[(evil.into(), evil.into())]);
    page.example(evil, &[(evil, evil)]);
    let mut table = Table::new(&[evil, ">figure"]);
    table.heading(evil);
    table.row([evil, evil]);
    page.table(&table);
    let page = page.finish(evil);
    markup::check(&page).unwrap();
    assert!(!page.contains("<b>"));
}
