//! Texts as they are compared.

/// A text without what does not make it another text: letter case, the amount of white space, white space before a sentence
/// mark, and quotes and sentence marks at its ends. What a form is made of (braces, bars, colons) stays.
pub fn normalised(text: &str) -> String {
    let edge = |c: char| c.is_whitespace() || ".,;:!?\"'“”‘’…".contains(c);
    let mut out = String::with_capacity(text.len());
    for word in text.trim_matches(edge).split_whitespace() {
        let mark = word.chars().all(|c| ".,;:!?…".contains(c));
        if !out.is_empty() && !mark {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::normalised;

    #[test]
    fn what_makes_no_other_text_is_left_out() {
        for text in ["The capital of  X is Paris .", "the capital of x is\nPARIS", "“The capital of X is Paris…”"]
        {
            assert_eq!(normalised(text), "the capital of x is paris");
        }
        assert_eq!(normalised("a , b"), "a, b");
        assert_ne!(normalised("{\"a\": \"b\"}"), normalised("a: b"));
        assert_eq!(normalised(" ?! "), "");
    }
}
