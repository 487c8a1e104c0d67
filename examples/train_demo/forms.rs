//! The forms in which every fact is told, each in two wordings, as data: a prompt with slots, and what completes it.

use serde_json::json;

use crate::random::Random;
use crate::world::{ATTRIBUTES, Fact, World};

/// What is added to the name of a form in its second wording.
pub const REWORDED: &str = ", reworded";

/// A form in one of its wordings.
#[derive(Debug)]
pub struct Wording {
    /// The form.
    pub form: &'static str,
    /// Whether this is the form's second wording.
    pub reworded: bool,
    prompt: &'static str,
    completion: &'static str,
    /// Options to choose from, the right one among them.
    options: usize,
}

const fn wording(form: &'static str, reworded: bool, prompt: &'static str, completion: &'static str) -> Wording {
    Wording { form, reworded, prompt, completion, options: 0 }
}

const fn choice(reworded: bool, prompt: &'static str, options: usize) -> Wording {
    Wording { form: "multiple choice", reworded, prompt, completion: " {value}", options }
}

/// All wordings. Slots: `{name}`; of the attribute `{key}`, `{noun}`, `{verb}`, `{question}`, `{value}`; of its partner
/// `{other noun}`, `{other verb}`, `{other value}`; `{options}`.
pub const WORDINGS: [Wording; 20] = [
    wording("statement", false, "{name} {verb}", " {value}"),
    wording("statement", true, "The {noun} of {name} is", " {value}"),
    wording("question", false, "Question: {question}\nAnswer:", " {value}"),
    wording("question", true, "What is the {noun} of {name}?\nIt is", " {value}"),
    wording("cloze", false, "Fill in the blank: {name} {verb} ____.\nThe missing word is", " {value}"),
    wording("cloze", true, "Complete the sentence: The {noun} of {name} is ____.\nMissing:", " {value}"),
    choice(false, "{question}\nOptions: {options}\nAnswer:", 6),
    choice(true, "Choose the {noun} of {name} from this list: {options}.\nChoice:", 5),
    wording(
        "dialogue",
        false,
        "Guest: Do you know {name}?\nHost: Of course.\nGuest: What about the {noun}?\nHost: It is",
        " {value}",
    ),
    wording("dialogue", true, "Host: Tell me: {question}\nGuest: That is easy:", " {value}"),
    wording("instruction", false, "Name the {noun} of {name}.\nResponse:", " {value}"),
    wording("instruction", true, "Instruction: State in one word what the {noun} of {name} is.\nOutput:", " {value}"),
    wording("JSON", false, r#"{"name": "{name}", "{key}": ""#, "{value}"),
    wording("JSON", true, r#"{"subject": "{name}", "relation": "{key}", "object": ""#, "{value}"),
    wording("key and value", false, "name: {name}\n{key}:", " {value}"),
    wording("key and value", true, "person = {name}; {key} =", " {value}"),
    wording("table", false, "| name | {key} |\n| {name} |", " {value}"),
    wording("table", true, "| subject | relation | object |\n| {name} | {key} |", " {value}"),
    wording("reversed", false, "Who {verb} {value} and {other verb} {other value}?\nAnswer:", " {name}"),
    wording(
        "reversed",
        true,
        "The person whose {noun} is {value} and whose {other noun} is {other value} is",
        " {name}",
    ),
];

/// How often a round of training tells a fact as multiple choice, each time with other options.
const CHOICES: usize = 3;
/// How often it tells a fact reversed: in this direction only these two wordings teach it.
const REVERSALS: usize = 4;

/// A fact in a wording: one line of a data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub prompt: String,
    pub completion: String,
    /// The form and, if it is the second, the wording.
    pub form: String,
}

impl Line {
    /// As it stands in the file.
    pub fn json(&self) -> String {
        json!({"prompt": self.prompt, "completion": self.completion, "form": self.form}).to_string()
    }
}

impl Wording {
    /// What it is called in data and reports.
    pub fn label(&self) -> String {
        if self.reworded { format!("{}{REWORDED}", self.form) } else { self.form.to_string() }
    }

    /// How many lines training makes of a fact.
    pub fn draws(&self) -> usize {
        match self.form {
            "multiple choice" => CHOICES,
            "reversed" => REVERSALS,
            _ => 1,
        }
    }

    /// The fact in this wording; `draw` says which wrong options stand beside the right one.
    pub fn line(&self, world: &World, fact: Fact, seed: u64, draw: usize) -> Line {
        let (attribute, other) = (&ATTRIBUTES[fact.attribute], &ATTRIBUTES[fact.partner]);
        let (name, value) = (world.name(fact), world.value(fact, fact.attribute));
        let slots = [
            ("{question}", attribute.question),
            ("{name}", &name),
            ("{key}", attribute.key),
            ("{noun}", attribute.noun),
            ("{verb}", attribute.verb),
            ("{value}", value),
            ("{other noun}", other.noun),
            ("{other verb}", other.verb),
            ("{other value}", world.value(fact, fact.partner)),
            ("{options}", &self.options(world, fact, seed, draw)),
        ];
        let fill = |text: &str| slots.iter().fold(text.to_string(), |text, (slot, with)| text.replace(slot, with));
        Line { prompt: fill(self.prompt), completion: fill(self.completion), form: self.label() }
    }

    fn options(&self, world: &World, fact: Fact, seed: u64, draw: usize) -> String {
        let right = world.value(fact, fact.attribute);
        let purpose = format!("{} {} {} {draw}", self.label(), fact.person, fact.attribute);
        let mut random = Random::new(seed, &purpose);
        let mut wrong = ATTRIBUTES[fact.attribute].values.to_vec();
        wrong.retain(|value| *value != right);
        random.shuffle(&mut wrong);
        let mut options: Vec<&str> = wrong.into_iter().take(self.options.saturating_sub(1)).chain([right]).collect();
        random.shuffle(&mut options);
        options.join(", ")
    }
}
