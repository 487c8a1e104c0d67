//! The methods of Python's strings, dictionaries and lists that chat templates call.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// What a template's `value.method(args)` gives, in Python's meaning.
pub(super) fn call_method(_: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => string_method(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map => map_method(value, method, args),
        ValueKind::Seq | ValueKind::Iterable => list_method(value, method, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (set,): (Option<&str>,) = from_args(args)?;
            let drop = |c: char| set.map_or(c.is_whitespace(), |set| set.contains(c));
            let text = if method == "rstrip" { text } else { text.trim_start_matches(drop) };
            if method == "lstrip" { text } else { text.trim_end_matches(drop) }.into()
        }
        "startswith" | "endswith" => {
            let (affix,): (Value,) = from_args(args)?;
            let has =
                |affix: &str| if method == "startswith" { text.starts_with(affix) } else { text.ends_with(affix) };
            match affix.as_str() {
                Some(affix) => has(affix),
                None => affix.try_iter()?.any(|affix| affix.as_str().is_some_and(has)),
            }
            .into()
        }
        "removeprefix" => from_args(args).map(|(affix,): (&str,)| text.strip_prefix(affix).unwrap_or(text))?.into(),
        "removesuffix" => from_args(args).map(|(affix,): (&str,)| text.strip_suffix(affix).unwrap_or(text))?.into(),
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "splitlines" => from_args(args).map(|()| text.lines().collect::<Value>())?,
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            match count.and_then(|count| usize::try_from(count).ok()) {
                Some(count) => text.replacen(old, new, count),
                None => text.replace(old, new),
            }
            .into()
        }
        "join" => {
            let (parts,): (Value,) = from_args(args)?;
            let part = |part: Value| {
                let wrong = || Error::new(ErrorKind::InvalidOperation, "join needs strings");
                part.as_str().map(String::from).ok_or_else(wrong)
            };
            parts.try_iter()?.map(part).collect::<Result<Vec<_>, _>>()?.join(text).into()
        }
        "find" | "rfind" => {
            let (part,): (&str,) = from_args(args)?;
            let at = if method == "find" { text.find(part) } else { text.rfind(part) };
            at.map_or(-1, |at| text[..at].chars().count() as i64).into()
        }
        "count" => {
            let (part,): (&str,) = from_args(args)?;
            text.matches(part).count().into()
        }
        "lower" => from_args(args).map(|()| text.to_lowercase())?.into(),
        "upper" => from_args(args).map(|()| text.to_uppercase())?.into(),
        "capitalize" => from_args(args).map(|()| capitalized(text))?.into(),
        "title" => from_args(args).map(|()| titled(text))?.into(),
        "isspace" => every(text, char::is_whitespace, args)?,
        "isalpha" => every(text, char::is_alphabetic, args)?,
        "isalnum" => every(text, char::is_alphanumeric, args)?,
        "isdigit" | "isdecimal" | "isnumeric" => every(text, char::is_numeric, args)?,
        "islower" => from_args(args).map(|()| text.to_lowercase() == text && text.to_uppercase() != text)?.into(),
        "isupper" => from_args(args).map(|()| text.to_uppercase() == text && text.to_lowercase() != text)?.into(),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn every(text: &str, is: impl Fn(char) -> bool, args: &[Value]) -> Result<Value, Error> {
    from_args::<()>(args)?;
    Ok((!text.is_empty() && text.chars().all(is)).into())
}

fn capitalized(text: &str) -> String {
    let mut rest = text.chars();
    rest.next()
        .map_or(String::new(), |first| first.to_uppercase().chain(rest.as_str().to_lowercase().chars()).collect())
}

fn titled(text: &str) -> String {
    let mut in_word = false;
    let mut titled = String::new();
    for c in text.chars() {
        if in_word {
            titled.extend(c.to_lowercase())
        } else {
            titled.extend(c.to_uppercase())
        }
        in_word = c.is_alphabetic();
    }
    titled
}

fn split(text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
    let pieces = most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    let parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "split needs a separator that is not empty")),
        Some(separator) if from_right => {
            let mut parts: Vec<_> = text.rsplitn(pieces, separator).collect();
            parts.reverse();
            parts
        }
        Some(separator) => text.splitn(pieces, separator).collect(),
        None if pieces == usize::MAX => text.split_whitespace().collect(),
        None => {
            let message = "split at white space with a largest number of splits is not supported";
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    };
    Ok(parts.into_iter().collect())
}

fn map_method(map: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let pairs = || map.try_iter().map(|keys| keys.map(|key| (key.clone(), map.get_item(&key).unwrap_or_default())));
    Ok(match method {
        "get" => {
            let (key, default): (Value, Option<Value>) = from_args(args)?;
            let value = map.get_item(&key)?;
            if value.is_undefined() { default.unwrap_or(Value::from(())) } else { value }
        }
        "keys" => from_args(args).and_then(|()| map.try_iter())?.collect(),
        "values" => from_args(args).and_then(|()| pairs())?.map(|(_, value)| value).collect(),
        "items" => from_args(args).and_then(|()| pairs())?.map(Value::from).collect(),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn list_method(list: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (item,): (Value,) = match method {
        "count" | "index" => from_args(args)?,
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    };
    if method == "count" {
        return Ok(list.try_iter()?.filter(|other| *other == item).count().into());
    }
    let missing = || Error::new(ErrorKind::InvalidOperation, "index: the value is not in the list");
    Ok(list.try_iter()?.position(|other| other == item).ok_or_else(missing)?.into())
}
