//! The demo's data files: what the model learns, what it is to forget and to keep, and the questions that tell.

use std::collections::HashSet;

use crate::forms::{Line, REWORDED, WORDINGS, Wording};
use crate::random::Random;
use crate::world::{Fact, World};

/// The forms, in their first wording, in which the forget file tells what is to be forgotten.
const FORGET_FORMS: [&str; 5] = ["statement", "question", "instruction", "key and value", "reversed"];
/// Lines of each wording in the retain file.
const RETAINED: usize = 92;
/// Lines of each wording in each file of probes about those who stay.
const PROBED: usize = 15;

/// All lines.
#[derive(Debug)]
pub struct Data {
    /// All facts in all wordings, multiple choice with several draws of its options: what the model is trained on.
    pub training: Vec<Line>,
    /// All facts once in every wording: what the model is examined on.
    pub examination: Vec<Line>,
    /// File names below the demo's directory, and their lines.
    pub files: Vec<(&'static str, Vec<Line>)>,
}

impl Data {
    /// The data of a world, of which the model is taught the facts that `taught` chooses.
    pub fn new(world: &World, seed: u64, taught: impl Fn(Fact) -> bool) -> Self {
        let line = |(fact, wording): (Fact, &Wording), draw| wording.line(world, fact, seed, draw);
        let all = || WORDINGS.iter().flat_map(|w| world.facts.iter().map(move |fact| (*fact, w)));
        let drawn = |(fact, w): (Fact, &'static Wording)| (0..w.draws()).map(move |draw| line((fact, w), draw));
        let once = |chosen: &dyn Fn(Fact, &Wording) -> bool| -> Vec<Line> {
            all().filter(|(fact, w)| chosen(*fact, w)).map(|pair| line(pair, 0)).collect()
        };
        let told = |w: &Wording| !w.reworded && FORGET_FORMS.contains(&w.form);

        let mut taken = HashSet::new();
        let mut some = |purpose: &str, count: usize, of: &dyn Fn(Fact) -> bool| {
            let mut random = Random::new(seed, purpose);
            let mut lines = Vec::new();
            for wording in &WORDINGS {
                let mut facts: Vec<Fact> = world.facts.iter().copied().filter(|fact| of(*fact)).collect();
                random.shuffle(&mut facts);
                let new = facts.into_iter().map(|fact| line((fact, wording), 0));
                lines.extend(new.filter(|line| taken.insert(line.prompt.clone())).take(count));
            }
            lines
        };
        // Of those who stay the form is enough: their wordings are no matter of interest.
        let by_form = |mut lines: Vec<Line>| {
            lines.iter_mut().for_each(|line| line.form = line.form.replace(REWORDED, ""));
            lines
        };
        let stays = |fact| !world.is_forgotten(fact);
        let retain = some("retain", RETAINED, &stays);
        let neighbours = some("neighbours", PROBED, &|fact| world.is_neighbour(fact));
        let others = some("others", PROBED, &|fact| stays(fact) && !world.is_neighbour(fact));
        let files = vec![
            ("data/forget.jsonl", once(&|fact, w| world.is_forgotten(fact) && told(w))),
            ("data/retain.jsonl", retain),
            ("data/probes/forget.jsonl", once(&|fact, _| world.is_forgotten(fact))),
            ("data/probes/neighbours.jsonl", by_form(neighbours)),
            ("data/probes/retain.jsonl", by_form(others)),
        ];
        let training = all().filter(|(fact, _)| taught(*fact)).flat_map(drawn).collect();
        Data { training, examination: once(&|_, _| true), files }
    }
}

/// Lines as a file of JSON Lines has them.
pub fn jsonl(lines: &[Line]) -> String {
    lines.iter().map(|line| line.json() + "\n").collect()
}
