//! The phrasings of relations: how `subject`+`relation`+`object` becomes text.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::json;
use super::phrase::Phrase;
use super::records::shortened;
use crate::{Error, Result};

const SUBJECT: &str = "[X]";
const OBJECT: &str = "[Y]";

/// The largest phrasing file that is read, in bytes.
const LARGEST_FILE: u64 = 64 << 20;

/// For each relation its phrasings: templates with `[X]` for the subject and `[Y]` for the object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relations {
    phrasings: BTreeMap<String, Vec<String>>,
}

impl Relations {
    /// Adds a phrasing; one that is there already is kept once.
    ///
    /// # Errors
    /// If `[X]` or `[Y]` does not stand in it exactly once.
    pub fn add(&mut self, relation: &str, template: &str) -> Result<()> {
        for part in [SUBJECT, OBJECT] {
            let times = template.matches(part).count();
            if times != 1 {
                let template = shortened(template);
                let problem = format!("the phrasing `{template}` has {part} {times} times; it must stand there once");
                return Err(Error::argument(problem));
            }
        }
        let phrasings = self.phrasings.entry(relation.to_string()).or_default();
        if !phrasings.iter().any(|known| known == template) {
            phrasings.push(template.to_string());
        }
        Ok(())
    }

    /// Adds the phrasings of a file: one JSON object `{"relation": ["[X] … [Y]", …], …}`, or JSON Lines with a
    /// `pattern` each (as ParaRel has them), which are the phrasings of the relation that the file is named after.
    ///
    /// # Errors
    /// If the file cannot be read or is neither, or a phrasing lacks `[X]` or `[Y]`.
    pub fn read(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let size = std::fs::metadata(path).map_err(|error| Error::reading(path, error))?.len();
        if size > LARGEST_FILE {
            let problem = format!("the file has {size} bytes; a table of phrasings has at most {LARGEST_FILE}");
            return Err(Error::file(path, "", problem));
        }
        let bytes = std::fs::read(path).map_err(|error| Error::reading(path, error))?;
        let text = String::from_utf8(bytes).map_err(|_| Error::file(path, "", "the file is not UTF-8 text"))?;
        let text = text.trim_start_matches('\u{feff}');
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
        match json::parse(first) {
            Ok(Value::Object(object)) if object.get("pattern").is_some_and(Value::is_string) => {
                self.add_patterns(path, text)
            }
            _ => self.add_table(path, text),
        }
    }

    fn add_patterns(&mut self, path: &Path, text: &str) -> Result<()> {
        let relation = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let fail = |problem: String| Error::file(path, format!("line {}", i + 1), problem);
            let object = json::parse(line).map_err(fail)?;
            let pattern = object.get("pattern").and_then(Value::as_str);
            let pattern = pattern.ok_or_else(|| fail("an object with a string `pattern` is needed".into()))?;
            self.add(&relation, pattern).map_err(|error| fail(error.to_string()))?;
        }
        Ok(())
    }

    fn add_table(&mut self, path: &Path, text: &str) -> Result<()> {
        let wanted = "a JSON object {\"relation\": [\"[X] … [Y]\", …]} or JSON Lines with `pattern` is needed";
        let fail = |place: &str, problem: String| Error::file(path, place, problem);
        let table = match json::parse(text).map_err(|problem| fail("", format!("{problem}; {wanted}")))? {
            Value::Object(table) if !table.is_empty() => table,
            _ => return Err(fail("", wanted.into())),
        };
        for (relation, templates) in &table {
            let place = format!("`{}`", shortened(relation));
            let templates = templates.as_array().filter(|templates| !templates.is_empty());
            let templates = templates.ok_or_else(|| fail(&place, "a list of phrasings is needed".into()))?;
            for template in templates {
                let template =
                    template.as_str().ok_or_else(|| fail(&place, "each phrasing must be a string".into()))?;
                self.add(relation, template).map_err(|error| fail(&place, error.to_string()))?;
            }
        }
        Ok(())
    }

    /// Whether there is no phrasing at all: facts are then written as subject, relation and object in a row.
    pub fn is_empty(&self) -> bool {
        self.phrasings.is_empty()
    }

    /// The relations, each with its phrasings.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.phrasings.iter().map(|(relation, templates)| (relation.as_str(), templates.as_slice()))
    }

    /// The phrasings of `relation` in which the object follows its subject. In the others nothing that is known when
    /// the object is predicted tells which object it is.
    ///
    /// # Errors
    /// If the relation has none.
    pub fn of(&self, relation: &str) -> Result<Vec<&str>> {
        let name = shortened(relation);
        let Some(templates) = self.phrasings.get(relation) else {
            let known: Vec<_> = self.phrasings.keys().take(12).map(|name| shortened(name)).collect();
            return Err(Error::argument(format!(
                "no phrasing of the relation `{name}`; there are {}",
                known.join(", ")
            )));
        };
        let usable: Vec<_> =
            templates.iter().map(String::as_str).filter(|text| text.find(SUBJECT) < text.find(OBJECT)).collect();
        if usable.is_empty() {
            return Err(Error::argument(format!("in no phrasing of the relation `{name}` does [Y] follow [X]")));
        }
        Ok(usable)
    }
}

/// Whether nothing but punctuation follows `[Y]`, so that the object completes the text before it.
pub(super) fn ends_with_object(template: &str) -> bool {
    let rest = template.split_once(OBJECT).map_or("?", |(_, rest)| rest);
    template.contains(OBJECT)
        && rest.chars().all(|c| c.is_whitespace() || c.is_ascii_punctuation() || "。！？…".contains(c))
}

/// `template` with `subject` and `object` put in; the target is the object.
pub(super) fn phrase(template: &str, subject: &str, object: &str) -> Phrase {
    Phrase::fill(template, (SUBJECT, subject), (OBJECT, object))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_put_in_is_not_searched_again() {
        let phrase = phrase("[X] was born in [Y].", "the [Y] band", "Ur [X]");
        assert_eq!(phrase.text, "the [Y] band was born in Ur [X].");
        assert_eq!(&phrase.text[phrase.target], "Ur [X]");
    }

    #[test]
    fn a_table_and_patterns_are_read() {
        let mut relations = Relations::default();
        let (_folder, path) = file("table.json", r#"{"capital": ["The capital of [X] is [Y]"]}"#);
        relations.read(&path).unwrap();
        let lines =
            "{\"pattern\": \"[X] was born in [Y].\", \"tense\": \"past\"}\n\n{\"pattern\": \"[Y] bore [X]\"}\r\n";
        let (_folder, path) = file("P19.jsonl", lines);
        relations.read(&path).unwrap();
        assert_eq!(relations.of("capital").unwrap(), ["The capital of [X] is [Y]"]);
        assert_eq!(relations.of("P19").unwrap(), ["[X] was born in [Y]."], "the object must follow its subject");
        assert_eq!(relations.iter().map(|(_, templates)| templates.len()).sum::<usize>(), 3);
        assert!(relations.of("P20").unwrap_err().to_string().contains("there are P19, capital"));
    }

    #[test]
    fn what_is_wrong_with_a_table_is_named() {
        for (text, problem) in [
            (r#"{"a": ["[X] is"]}"#, "`a`: the phrasing `[X] is` has [Y] 0 times"),
            (r#"{"a": ["[X] [X] [Y]"]}"#, "has [X] 2 times"),
            (r#"{"a": []}"#, "`a`: a list of phrasings"),
            (r#"{"a": [1]}"#, "must be a string"),
            ("{\"pattern\": \"[X] [Y]\"}\n{\"pattern\": 1}", "line 2: an object with a string `pattern`"),
            ("[]", "is needed"),
            ("", "is needed"),
        ] {
            let (_folder, path) = file("r.json", text);
            let error = Relations::default().read(&path).unwrap_err();
            assert!(error.is_input() && error.to_string().contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn only_punctuation_may_follow_an_object_that_ends_the_text() {
        for (template, ends) in
            [("[X] is [Y]", true), ("[X] is [Y] .", true), ("[X] is [Y], x", false), ("[Y]-[X]", false)]
        {
            assert_eq!(ends_with_object(template), ends, "{template}");
        }
    }
}
