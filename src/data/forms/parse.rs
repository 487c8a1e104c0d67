//! The file format of templates, and everything that can be wrong with a file.

use std::path::Path;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::slot::{Escape, Piece, Slot, WordingKind, pieces, slots};
use super::split::Side;
use super::templates::{Audience, Form, Relation, Template, TemplateBody, Templates, Wording, simple};
use crate::data::json;
use crate::data::records::shortened;
use crate::{Error, Result};

/// What a part of a file gives: or the place in it, and what is wrong.
type Parsed<T> = std::result::Result<T, (String, String)>;

const WANTED: &str = "a JSON object with `relations` and `forms` is needed";

/// Adds the templates in `text`, the content of `path`.
pub(super) fn add(templates: &mut Templates, path: &Path, text: &str) -> Result<()> {
    let value = json::parse(text).map_err(|problem| Error::file(path, "", format!("{problem}; {WANTED}")))?;
    // All or nothing: an error leaves the templates as they were.
    let mut changed = templates.clone();
    add_file(&mut changed, &value).map_err(|(place, problem)| Error::file(path, place, problem))?;
    let digest = Sha256::digest(text.as_bytes());
    changed.sources.push(digest.iter().map(|byte| format!("{byte:02x}")).collect());
    *templates = changed;
    Ok(())
}

fn add_file(templates: &mut Templates, value: &Value) -> Parsed<()> {
    let file = object(value, "")?;
    known_keys(file, "", &["relations", "forms", "description"])?;
    if !file.contains_key("relations") && !file.contains_key("forms") {
        return Err((String::new(), WANTED.into()));
    }
    for (name, value) in section(file, "relations")? {
        add_relation(templates, name, value)?;
    }
    for (name, value) in section(file, "forms")? {
        add_form(templates, name, value)?;
    }
    Ok(())
}

fn section<'v>(file: &'v Map<String, Value>, key: &str) -> Parsed<Vec<(&'v String, &'v Value)>> {
    file.get(key).map_or(Ok(Vec::new()), |value| Ok(object(value, &format!("`{key}`"))?.iter().collect()))
}

fn add_relation(templates: &mut Templates, name: &str, value: &Value) -> Parsed<()> {
    let place = format!("relations: `{}`", shortened(name));
    let entry = object(value, &place)?;
    known_keys(entry, &place, &["ids", "noun", "several", "replace", "phrases", "questions", "reversed"])?;
    let mut names = vec![name.to_string()];
    for (i, id) in list(entry, "ids", &place)?.iter().enumerate() {
        names.push(text(id, &format!("{place}: ids[{i}]"))?);
    }
    let canonical = names.iter().find_map(|name| templates.names.get(&simple(name))).unwrap_or(&names[0]).clone();
    for name in &names {
        let taken = templates.names.insert(simple(name), canonical.clone()).filter(|old| *old != canonical);
        if let Some(old) = taken {
            return Err((place, format!("`{name}` is a name of the relation `{old}` already")));
        }
    }
    let relation = templates.relations.entry(canonical).or_default();
    if flag(entry, "replace", &place)? {
        *relation = Relation::default();
    }
    if let Some(noun) = entry.get("noun") {
        relation.noun = Some(text(noun, &format!("{place}: noun"))?);
    }
    if entry.contains_key("several") {
        relation.several = flag(entry, "several", &place)?;
    }
    for key in ["phrases", "questions", "reversed"] {
        for (i, item) in list(entry, key, &place)?.iter().enumerate() {
            let place = format!("{place}: {key}[{i}]");
            let (kind, wording) = wording(key, item, &place)?;
            let known = relation.wordings.entry(kind).or_default();
            match known.iter_mut().find(|known| known.text == wording.text) {
                Some(known) => *known = wording,
                None => known.push(wording),
            }
        }
    }
    Ok(())
}

/// A wording and the list that it belongs to.
fn wording(key: &str, item: &Value, place: &str) -> Parsed<(WordingKind, Wording)> {
    let fail = |problem: String| (place.to_string(), problem);
    let (item_text, split) = with_split(item, place)?;
    let pieces = pieces(&item_text).map_err(fail)?;
    if pieces.iter().any(|piece| matches!(piece, Piece::Open | Piece::Close)) {
        return Err(fail("a wording has no [[target]]: the template that it is put into decides".into()));
    }
    let count = |slot: Slot| slots(&pieces).filter(|found| *found == slot).count();
    let (subject, object) = (count(Slot::Subject), count(Slot::Object));
    if let Some(other) = slots(&pieces).find(|slot| !matches!(slot, Slot::Subject | Slot::Object)) {
        return Err(fail(format!("a wording has only {{subject}} and {{object}}, not {{{}}}", other.name())));
    }
    let needs = |name: &str, found: usize, wanted: usize| match found == wanted {
        true => Ok(()),
        false => Err(fail(format!(
            "`{}` has {{{name}}} {found} times; it must stand there {}",
            shortened(&item_text),
            if wanted == 1 { "once" } else { "not at all" }
        ))),
    };
    let first = slots(&pieces).next();
    let ordered = |wanted: Slot, problem: &str| if first == Some(wanted) { Ok(()) } else { Err(fail(problem.into())) };
    let kind = match key {
        "phrases" => {
            needs("subject", subject, 1)?;
            needs("object", object, 1)?;
            ordered(Slot::Subject, "{object} must follow {subject}; one where it does not belongs to `reversed`")?;
            WordingKind::Phrases
        }
        "questions" => {
            needs("subject", subject, 1)?;
            needs("object", object, 0)?;
            WordingKind::Questions
        }
        _ if subject > 0 => {
            needs("subject", subject, 1)?;
            needs("object", object, 1)?;
            ordered(Slot::Object, "{subject} must follow {object}; one where it does not belongs to `phrases`")?;
            WordingKind::ReversedPhrases
        }
        _ => {
            needs("object", object, 1)?;
            WordingKind::ReversedQuestions
        }
    };
    Ok((kind, Wording { text: item_text.into(), pieces, split }))
}

fn add_form(templates: &mut Templates, name: &str, value: &Value) -> Parsed<()> {
    let place = format!("forms: `{}`", shortened(name));
    if name.is_empty() || name == "all" || name.contains([',', '\n']) {
        let problem = "a form needs a name without commas and line breaks, other than `all`".into();
        return Err((place, problem));
    }
    let (items, escape, replace) = match value {
        Value::Array(items) => (items.as_slice(), Escape::None, false),
        other => {
            let entry = object(other, &place)?;
            known_keys(entry, &place, &["templates", "escape", "replace"])?;
            let escape = match entry.get("escape").map(|value| text(value, &format!("{place}: escape"))).transpose()? {
                None => Escape::None,
                Some(name) if name == "json" => Escape::Json,
                Some(name) => return Err((place, format!("`escape` is `{}`; it can be `json`", shortened(&name)))),
            };
            (list(entry, "templates", &place)?, escape, flag(entry, "replace", &place)?)
        }
    };
    if items.is_empty() {
        return Err((place, "the form is empty: it needs at least one template".into()));
    }
    let at = templates.forms.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
        templates.forms.push((name.to_string(), Form::default()));
        templates.forms.len() - 1
    });
    let form = &mut templates.forms[at].1;
    if replace {
        *form = Form::default();
    }
    for (i, item) in items.iter().enumerate() {
        let place = format!("{place}: templates[{i}]");
        let template = template(item, &place)?;
        match form.templates.iter().position(|known| known.text == template.text) {
            Some(known) => (form.templates[known], form.escape[known]) = (template, escape),
            None => {
                form.templates.push(template);
                form.escape.push(escape);
            }
        }
    }
    Ok(())
}

fn template(item: &Value, place: &str) -> Parsed<Template> {
    let fail = |problem: String| (place.to_string(), problem);
    let chat = item.as_object().filter(|entry| entry.contains_key("user") || entry.contains_key("assistant"));
    let (name, body, split) = match chat {
        Some(entry) => {
            known_keys(entry, place, &["user", "assistant", "split"])?;
            let part = |key: &str| {
                let value = entry.get(key).ok_or_else(|| fail(format!("`{key}` is missing")))?;
                let text = text(value, &format!("{place}: {key}"))?;
                let pieces = pieces(&text).map_err(fail)?;
                if pieces.iter().any(|p| matches!(p, Piece::Open | Piece::Close))
                    || slots(&pieces).any(Slot::has_target)
                {
                    return Err(fail(format!("`{key}` has no [[target]]: it is what the assistant says")));
                }
                Ok((text, pieces))
            };
            let ((user, asked), (assistant, said)) = (part("user")?, part("assistant")?);
            (format!("{user} → {assistant}"), TemplateBody::Chat(asked, said), split_of(entry, place)?)
        }
        None => {
            let (text, split) = with_split(item, place)?;
            let pieces = pieces(&text).map_err(fail)?;
            check_target(&text, &pieces).map_err(fail)?;
            (text, TemplateBody::Text(pieces), split)
        }
    };
    let mut template = Template { text: name.into(), body, wording: None, audience: Audience::Text, split };
    let parts: Vec<Piece> = template.parts().cloned().collect();
    if slots(&parts).next().is_none() {
        let text = shortened(&template.text);
        return Err(fail(format!("the template `{text}` has no slot: it says the same of every record")));
    }
    template.audience = Audience::of(&parts).map_err(fail)?;
    let mut lists = slots(&parts).filter_map(|slot| Some((slot, slot.wording()?)));
    if let Some((slot, list)) = lists.next() {
        if let Some((other, _)) = lists.find(|(_, other)| *other != list) {
            return Err(fail(format!(
                "{{{}}} and {{{}}} are worded independently; a template takes one wording",
                slot.name(),
                other.name()
            )));
        }
        template.wording = Some(list);
    }
    Ok(template)
}

/// A text has one target: between marks, or that of a slot which brings one.
fn check_target(text: &str, pieces: &[Piece]) -> std::result::Result<(), String> {
    let text = shortened(text);
    let marks: Vec<_> = pieces.iter().filter(|piece| matches!(piece, Piece::Open | Piece::Close)).collect();
    let own = slots(pieces).filter(|slot| slot.has_target()).count();
    match (&marks[..], own) {
        ([], 0) => Err(format!("the template `{text}` has no target: mark what is to be predicted with [[ and ]]")),
        ([], 1) | ([Piece::Open, Piece::Close], 0) => {
            let start = pieces.iter().position(|piece| *piece == Piece::Open);
            let end = pieces.iter().position(|piece| *piece == Piece::Close);
            match (start, end) {
                (Some(start), Some(end)) if start + 1 == end => Err(format!("the target of `{text}` is empty")),
                _ => Ok(()),
            }
        }
        _ => Err(format!("the template `{text}` has more than one target; [[ and ]] stand around one part")),
    }
}

/// A text, alone or with a side.
fn with_split(item: &Value, place: &str) -> Parsed<(String, Option<Side>)> {
    match item {
        Value::Object(entry) => {
            known_keys(entry, place, &["text", "split"])?;
            let value = entry.get("text").ok_or_else(|| (place.to_string(), "`text` is missing".to_string()))?;
            Ok((text(value, place)?, split_of(entry, place)?))
        }
        other => Ok((text(other, place)?, None)),
    }
}

fn split_of(entry: &Map<String, Value>, place: &str) -> Parsed<Option<Side>> {
    let Some(value) = entry.get("split") else { return Ok(None) };
    let side = value.as_str().and_then(Side::of);
    let problem = || (place.to_string(), "`split` must be `train` or `held-out`".to_string());
    side.map(Some).ok_or_else(problem)
}

fn object<'v>(value: &'v Value, place: &str) -> Parsed<&'v Map<String, Value>> {
    let problem = if place.is_empty() { WANTED } else { "a JSON object is needed" };
    value.as_object().ok_or_else(|| (place.to_string(), problem.to_string()))
}

fn list<'v>(entry: &'v Map<String, Value>, key: &str, place: &str) -> Parsed<&'v [Value]> {
    match entry.get(key) {
        None => Ok(&[]),
        Some(Value::Array(items)) if !items.is_empty() => Ok(items),
        Some(Value::Array(_)) if key == "templates" => Ok(&[]),
        Some(Value::Array(_)) => Err((place.to_string(), format!("`{key}` is empty; leave it out or fill it"))),
        Some(_) => Err((place.to_string(), format!("`{key}` must be a list"))),
    }
}

fn text(value: &Value, place: &str) -> Parsed<String> {
    match value.as_str() {
        Some(text) if text.trim().is_empty() => Err((place.to_string(), "the text is empty".into())),
        Some(text) => Ok(text.to_string()),
        None => Err((place.to_string(), "a string is needed".into())),
    }
}

fn flag(entry: &Map<String, Value>, key: &str, place: &str) -> Parsed<bool> {
    match entry.get(key) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err((place.to_string(), format!("`{key}` must be true or false"))),
    }
}

fn known_keys(entry: &Map<String, Value>, place: &str, known: &[&str]) -> Parsed<()> {
    match entry.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let problem = format!("unknown key `{}`; there are {}", shortened(key), known.join(", "));
            Err((place.to_string(), problem))
        }
    }
}
