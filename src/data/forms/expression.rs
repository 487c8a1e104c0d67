//! What a record becomes in one form and wording, and what is said where nothing comes of it.

use std::collections::HashMap;
use std::sync::Arc;

use super::normal::normalised;
use super::split::Side;
use crate::data::Origin;

/// A record told in one form and wording.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// The form's name.
    pub form: Arc<str>,
    /// Template and wording, with their slots: what makes this expression another one than its siblings.
    pub phrasing: Arc<str>,
    /// The side of the split.
    pub side: Side,
    /// What is said.
    pub body: Body,
    /// Wrong answers of the same kind as the right one, where the form asks for the object.
    pub alternatives: Vec<String>,
    /// Other right answers.
    pub aliases: Vec<String>,
}

/// What an expression says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A text, and the bytes of it that are to be predicted.
    Text {
        /// All of it.
        text: String,
        /// The target's bytes.
        target: std::ops::Range<usize>,
    },
    /// A question and its answer, written by the chat template where there is one.
    Chat {
        /// What the user says.
        question: String,
        /// What is to be predicted.
        answer: String,
    },
}

impl Expression {
    /// The right answer.
    pub fn answer(&self) -> &str {
        match &self.body {
            Body::Text { text, target } => &text[target.clone()],
            Body::Chat { answer, .. } => answer,
        }
    }

    /// The same with another answer, and nothing behind it.
    pub fn with_answer(&self, answer: &str) -> Self {
        let body = match &self.body {
            Body::Text { text, target } => {
                let text = format!("{}{answer}", &text[..target.start]);
                Body::Text { target: target.start..text.len(), text }
            }
            Body::Chat { question, .. } => Body::Chat { question: question.clone(), answer: answer.to_string() },
        };
        Expression { body, ..self.clone() }
    }

    /// The text by which two expressions are compared: up to the end of the answer, normalised.
    pub fn compared(&self) -> String {
        match &self.body {
            Body::Text { text, target } => normalised(&text[..target.end]),
            Body::Chat { question, answer } => normalised(&format!("{question} → {answer}")),
        }
    }
}

/// Something that was not made, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The record.
    pub origin: Origin,
    /// The form, where only one is concerned.
    pub form: Option<Arc<str>>,
    /// Why.
    pub reason: String,
}

/// How many of a list of refusals have the same form and reason, most frequent first, with the first record of each.
pub fn counted(refused: &[Refusal]) -> Vec<(usize, &Refusal)> {
    let mut order: Vec<(usize, &Refusal)> = Vec::new();
    let mut places: HashMap<(Option<&str>, &str), usize> = HashMap::new();
    for refusal in refused {
        let place = *places.entry((refusal.form.as_deref(), &refusal.reason)).or_insert_with(|| {
            order.push((0, refusal));
            order.len() - 1
        });
        order[place].0 += 1;
    }
    order.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    order
}
