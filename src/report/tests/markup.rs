//! A small strict reader of markup: every element closed in order, every attribute quoted, every `&` an entity.

/// Elements that HTML never closes.
const VOID: [&str; 3] = ["meta", "br", "hr"];

/// What is wrong with the markup, if anything. Text of `style` is skipped as HTML does.
pub(super) fn check(document: &str) -> Result<(), String> {
    let mut open: Vec<String> = Vec::new();
    let mut rest = document.strip_prefix("<!DOCTYPE html>").unwrap_or(document);
    if let Some(bad) = document.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(format!("control character {bad:?}"));
    }
    while let Some(start) = rest.find('<') {
        check_text(&rest[..start])?;
        rest = &rest[start + 1..];
        let end = tag_end(rest).ok_or_else(|| format!("tag without end: {}", excerpt(rest)))?;
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(expected) if expected == name => {}
                other => return Err(format!("</{name}> closes {other:?}, before {}", excerpt(rest))),
            }
            continue;
        }
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        if name.is_empty() {
            return Err(format!("no element: <{}", excerpt(tag)));
        }
        let attributes = tag[name.len()..].trim_end_matches('/');
        check_attributes(attributes)?;
        if name == "style" {
            rest = rest.split_once("</style>").ok_or("style without end")?.1;
        } else if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    check_text(rest)?;
    if open.is_empty() { Ok(()) } else { Err(format!("never closed: {open:?}")) }
}

/// The text that a reader sees, without tags and styles.
pub(super) fn text_of(document: &str) -> String {
    let mut out = String::new();
    let body = document.split_once("</style>").map_or(document, |(_, body)| body);
    let mut rest = body;
    while let Some((text, after)) = rest.split_once('<') {
        out.push_str(text);
        out.push(' ');
        rest = tag_end(after).map_or("", |end| &after[end + 1..]);
    }
    out.push_str(rest);
    out
}

fn tag_end(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(i, c)| {
        quoted ^= c == '"';
        (c == '>' && !quoted).then_some(i)
    })
}

fn check_attributes(mut rest: &str) -> Result<(), String> {
    let mut seen: Vec<&str> = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(());
        }
        let (name, after) =
            rest.split_once("=\"").ok_or_else(|| format!("attribute without value: {}", excerpt(rest)))?;
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            || name.starts_with("on")
            || seen.contains(&name)
        {
            return Err(format!("attribute {name:?}"));
        }
        let (value, after) =
            after.split_once('"').ok_or_else(|| format!("attribute without end: {}", excerpt(rest)))?;
        check_text(value)?;
        if value.contains("NaN") && ["x", "y", "width", "height", "points"].contains(&name) {
            return Err(format!("{name} is no number"));
        }
        seen.push(name);
        rest = after;
    }
}

fn check_text(text: &str) -> Result<(), String> {
    if text.contains('>') {
        return Err(format!("stray >: {}", excerpt(text)));
    }
    for (i, _) in text.match_indices('&') {
        let entity = text[i + 1..].split(';').next().unwrap_or("");
        if !["amp", "lt", "gt", "quot", "#39"].contains(&entity) {
            return Err(format!("bare &: {}", excerpt(&text[i..])));
        }
    }
    Ok(())
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[test]
fn the_reader_notices_what_it_is_for() {
    assert_eq!(check("<p class=\"a\">x &amp; y<br></p>"), Ok(()));
    assert_eq!(check("<!DOCTYPE html><style>a > b & c</style><svg><rect x=\"1\"/></svg>"), Ok(()));
    for bad in [
        "<p>",
        "</p>",
        "<p><b></p></b>",
        "<p>a & b</p>",
        "<p x=y></p>",
        "<p x=\"1\" x=\"2\"></p>",
        "a > b",
        "<p x=\"<\"y></p>",
        "<p>\u{0}</p>",
        "<p onload=\"x\"></p>",
        "<rect x=\"NaN\"/>",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}
