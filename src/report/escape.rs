//! Making foreign text harmless: in markup, where a probe's answer may hold tags, and in a terminal, where a file name
//! may hold control sequences.

/// What stands in for a character that must not be shown.
const REPLACEMENT: char = '\u{fffd}';

/// Whether a character can change what is around it: control codes, and the overrides of writing direction.
fn is_hostile(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
}

/// Text as the content or the quoted attribute of an HTML or SVG element. Line breaks and tabs stay.
pub fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if is_hostile(c) => out.push(REPLACEMENT),
            c => out.push(c),
        }
    }
    out
}

/// Text on one line of a terminal: line breaks and tabs become spaces, other control characters a replacement sign.
pub fn terminal(text: &str) -> String {
    let line = text.replace("\r\n", " ");
    line.chars()
        .map(|c| match c {
            '\n' | '\t' | '\r' => ' ',
            c if is_hostile(c) => REPLACEMENT,
            c => c,
        })
        .collect()
}

/// The columns that a text takes in a terminal: two for East Asian and emoji characters, none for combining marks.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The text cut to at most `columns` terminal columns, the cut marked by `…`. Keeps the beginning.
pub fn shorten(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = take(text.chars(), columns.saturating_sub(1));
    out.push('…');
    out
}

/// The text cut to at most `columns` terminal columns in its middle, since paths differ at their ends.
pub fn shorten_middle(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    let tail: String = take(text.chars().rev(), room - room / 3).chars().rev().collect();
    format!("{}…{tail}", take(text.chars(), room / 3))
}

fn take(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|&c| {
            used += char_width(c);
            used <= columns
        })
        .collect()
}
