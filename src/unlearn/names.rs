//! Parameters chosen by name: what `--only`, `--skip` and `--tensors` mean.

use crate::model::Model;
use crate::{Error, Result};

/// Whether `name` matches `pattern`, in which `*` stands for any text and `?` for any character.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // After a mismatch the last star takes one more character, which is all that ever needs to be tried again.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// For each parameter of `model` whether its name, or that of a copy, matches one of `patterns`.
///
/// # Errors
/// When a pattern matches none: it would silently do nothing.
pub fn select(model: &Model, patterns: &[impl AsRef<str>]) -> Result<Vec<bool>> {
    let mut selected = vec![false; model.parameters.len()];
    for pattern in patterns.iter().map(AsRef::as_ref) {
        let mut found = false;
        for (selected, parameter) in selected.iter_mut().zip(&model.parameters) {
            let hit = std::iter::once(&parameter.name).chain(&parameter.copies).any(|name| matches(pattern, name));
            *selected |= hit;
            found |= hit;
        }
        if !found {
            let example = model.parameters.last().map_or("", |p| &p.name);
            return Err(Error::argument(format!(
                "{pattern:?} matches no tensor; `efface inspect` lists them, {example} is one (* stands for any text)"
            )));
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "abc"),
            ("a*c", "abbc"),
            ("*b*b", "abcbb"),
            ("model.layers.?.mlp*", "model.layers.3.mlp.up_proj.weight"),
            ("abc", "abc"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("?", ""), ("a*c", "abcd"), ("*bc", "abcb"), ("layers.?.x", "layers.12.x")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
