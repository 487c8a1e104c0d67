//! Taking the texts out of a report: a report about secrets must not be the place where they are read.

use sha2::{Digest, Sha256};

use super::ForgetReport;

/// What stands in for a text: the beginning of its hash. Equal texts stay recognisable as equal. A hash cannot be read
/// back, but it confirms a guess; the short form also fits other texts, which makes that a weak confirmation.
fn hashed(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}…")
}

impl ForgetReport {
    /// Replaces every text of the data by a short hash: questions, gold answers and answers, also where a warning
    /// quotes one or a setting consists of one. File names, names of forms and figures stay. Doing it twice is doing
    /// it once.
    pub fn redact(&mut self) {
        if self.redacted {
            return;
        }
        let mut secrets: Vec<String> = Vec::new();
        for example in &mut self.examples {
            for text in [&mut example.question, &mut example.gold, &mut example.before, &mut example.after] {
                let hash = hashed(text);
                secrets.push(std::mem::replace(text, hash));
            }
        }
        // The longest first, so that a text which contains another goes as a whole.
        secrets.retain(|s| !s.trim().is_empty());
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        for warning in &mut self.warnings {
            *warning = without_quotes(warning, &secrets);
        }
        for argument in &mut self.command_line {
            replace_whole(argument, &secrets);
        }
        for (_, value) in &mut self.settings {
            redact_value(value, &secrets);
        }
        self.redacted = true;
    }
}

fn redact_value(value: &mut serde_json::Value, secrets: &[String]) {
    match value {
        serde_json::Value::String(text) => replace_whole(text, secrets),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| redact_value(item, secrets)),
        serde_json::Value::Object(map) => map.values_mut().for_each(|item| redact_value(item, secrets)),
        _ => {}
    }
}

fn replace_whole(text: &mut String, secrets: &[String]) {
    if secrets.iter().any(|secret| secret.trim() == text.trim()) {
        *text = hashed(text);
    }
}

/// The text with every secret in it replaced, where the secret stands as words of its own: an answer `a` must not
/// take apart the word `weights`.
fn without_quotes(text: &str, secrets: &[String]) -> String {
    let mut out = String::new();
    let mut rest = text;
    let mut before: Option<char> = None;
    while let Some(c) = rest.chars().next() {
        let found = secrets.iter().map(|s| s.trim()).find(|secret| {
            rest.strip_prefix(secret).is_some_and(|after| {
                let joined = |a: Option<char>, b: Option<char>| {
                    a.zip(b).is_some_and(|(a, b)| a.is_alphanumeric() && b.is_alphanumeric())
                };
                !joined(before, secret.chars().next()) && !joined(secret.chars().last(), after.chars().next())
            })
        });
        let taken = match found {
            Some(secret) => {
                out.push_str(&hashed(secret));
                secret.len()
            }
            None => {
                out.push(c);
                c.len_utf8()
            }
        };
        before = rest[..taken].chars().last();
        rest = &rest[taken..];
    }
    out
}
