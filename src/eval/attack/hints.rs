//! In-context hints: other facts of the same relation stand in front of a question, with their answers, in the form in which it
//! is asked. A model that has only unlearned to answer may pick the pattern up and answer again.

use std::collections::{BTreeMap, BTreeSet};

use super::super::BEYOND_GOLD;
use super::super::metrics::normalised;
use crate::data::{Probe, ProbeKind};
use crate::random::Random;

/// What is put in front, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hints {
    /// At most so many facts.
    pub count: usize,
    /// Seed of their choice.
    pub seed: u64,
    /// Tokens that the model has room for: hints are left out from the front until the probe and its answer fit.
    pub context: usize,
    /// The special tokens in front of every text, which stand there once.
    pub leading: Vec<u32>,
    /// What follows an answer that no end token closes: a line break.
    pub separator: Vec<u32>,
    /// Tokens that end an answer.
    pub eos: Vec<u32>,
}

impl Hints {
    /// The probes with hints in front, chosen among `others`: answers to other facts of the same relation, in the same form,
    /// each fact once, none with the probe's own answer. None for a probe that is no fact's, or finds or has room for no hint.
    pub fn before(&self, probes: &[Probe], others: &[&Probe]) -> Vec<Option<Probe>> {
        let mut alike: BTreeMap<(&str, Option<&str>), Vec<&Probe>> = BTreeMap::new();
        for other in others.iter().filter(|other| other.kind == ProbeKind::Answer) {
            if let Some(fact) = &other.fact {
                alike.entry((&fact.relation, other.form.as_deref())).or_default().push(other);
            }
        }
        let mut random = Random::new(self.seed, "hints");
        let hinted = |probe: &Probe| {
            let fact = probe.fact.as_ref().filter(|_| probe.kind == ProbeKind::Answer)?;
            let candidates = alike.get(&(&*fact.relation, probe.form.as_deref()))?;
            let mut told = BTreeSet::from([&*fact.subject]);
            let order = random.order(candidates.len());
            let fresh = order.into_iter().map(|place| candidates[place]).filter(|other| !same_answer(probe, other));
            let chosen = fresh.filter(|other| other.fact.as_ref().is_some_and(|fact| told.insert(&fact.subject)));
            self.joined(&chosen.take(self.count).collect::<Vec<_>>(), probe)
        };
        probes.iter().map(hinted).collect()
    }

    fn joined(&self, hints: &[&Probe], probe: &Probe) -> Option<Probe> {
        let fits = |ids: &Vec<u32>| ids.len() + probe.gold_ids.len() + BEYOND_GOLD <= self.context;
        let mut prompts = (0..hints.len()).map(|left_out| self.prompt(&hints[left_out..], probe));
        let prompt_ids = prompts.find(fits)?;
        Some(Probe { prompt_ids, wrong: Vec::new(), reworded: None, ..probe.clone() })
    }

    fn prompt(&self, hints: &[&Probe], probe: &Probe) -> Vec<u32> {
        let mut ids = Vec::new();
        for hint in hints {
            ids.extend(self.without_leading(&hint.prompt_ids, ids.is_empty()));
            ids.extend(&hint.gold_ids);
            if hint.gold_ids.last().is_none_or(|last| !self.eos.contains(last)) {
                ids.extend(&self.separator);
            }
        }
        ids.extend(self.without_leading(&probe.prompt_ids, ids.is_empty()));
        ids
    }

    /// The first text keeps the special tokens in front.
    fn without_leading<'p>(&self, prompt: &'p [u32], first: bool) -> &'p [u32] {
        if first { prompt } else { prompt.strip_prefix(&self.leading[..]).unwrap_or(prompt) }
    }
}

/// Whether a hint would give the probe's answer away: one of its right answers, as texts are compared, or as tokens.
fn same_answer(probe: &Probe, hint: &Probe) -> bool {
    let texts = |probe: &Probe| -> BTreeSet<String> {
        probe.gold_text.iter().chain(&probe.aliases).map(|text| normalised(text)).collect()
    };
    probe.gold_ids == hint.gold_ids || !texts(probe).is_disjoint(&texts(hint))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::Origin;
    use crate::data::forms::FactKey;

    const BEGIN: u32 = 1;
    const END: u32 = 2;
    const BREAK: u32 = 3;

    fn probe(subject: &str, relation: &str, form: &str, gold: &str, ids: [u32; 2]) -> Probe {
        Probe {
            kind: ProbeKind::Answer,
            prompt_ids: vec![BEGIN, ids[0]],
            gold_ids: vec![ids[1]],
            gold_text: Some(gold.into()),
            question: None,
            alternatives: Vec::new(),
            aliases: Vec::new(),
            form: Some(form.into()),
            phrasing: None,
            fact: Some(FactKey { subject: subject.into(), relation: relation.into() }),
            wrong: Vec::new(),
            reworded: None,
            origin: Origin { path: Path::new("facts.jsonl").into(), line: 1 },
        }
    }

    fn hints(count: usize, context: usize) -> Hints {
        Hints { count, seed: 3, context, leading: vec![BEGIN], separator: vec![BREAK], eos: vec![END] }
    }

    #[test]
    fn only_facts_that_fit_are_hints() {
        let asked = [probe("france", "capital", "question", "Paris", [10, 20])];
        let right = probe("italy", "capital", "question", "Rome", [11, 21]);
        let others = [
            right.clone(),
            probe("italy", "capital", "question", "Rome", [12, 21]),
            probe("France", "capital", "cloze", "Rome", [13, 21]),
            probe("spain", "language", "question", "Spanish", [14, 22]),
            probe("texas", "capital", "question", "PARIS.", [15, 23]),
            probe("utopia", "capital", "question", "?", [16, 20]),
            probe("france", "capital", "question", "Lyon", [17, 24]),
        ];
        let others: Vec<&Probe> = others.iter().collect();
        let hinted = hints(5, 100).before(&asked, &others).remove(0).unwrap();
        // Italy once, by one of its two probes; the rest is another form, relation, the same answer or the fact itself.
        assert_eq!(hinted.prompt_ids.len(), 5, "{:?}", hinted.prompt_ids);
        assert!([11, 12].contains(&hinted.prompt_ids[1]) && hinted.prompt_ids[0] == BEGIN);
        assert_eq!(hinted.prompt_ids[2..], [21, BREAK, 10]);
        assert_eq!((hinted.gold_ids, hinted.form), (asked[0].gold_ids.clone(), asked[0].form.clone()));
        // An end token needs no line break after it.
        let closed = Probe { gold_ids: vec![21, END], ..right };
        let hinted = hints(1, 100).before(&asked, &[&closed]).remove(0).unwrap();
        assert_eq!(hinted.prompt_ids, [BEGIN, 11, 21, END, 10]);
        assert_eq!(hints(5, 100).before(&asked, &[others[3]]), [None], "no fact of the relation");
        let text = Probe { fact: None, ..asked[0].clone() };
        assert_eq!(hints(5, 100).before(&[text], &others), [None], "no fact");
    }

    #[test]
    fn the_choice_is_seeded_and_stays_in_the_context() {
        let asked = [probe("france", "capital", "question", "Paris", [10, 20])];
        let others: Vec<Probe> = (0..30)
            .map(|n| probe(&format!("s{n}"), "capital", "question", &format!("c{n}"), [100 + n, 200 + n]))
            .collect();
        let others: Vec<&Probe> = others.iter().collect();
        let chosen = |hints: Hints| hints.before(&asked, &others).remove(0).map(|probe| probe.prompt_ids);
        let four = chosen(hints(4, 100)).unwrap();
        assert_eq!(four.len(), 1 + 4 * 3 + 1);
        assert_eq!(Some(&four), chosen(hints(4, 100)).as_ref());
        assert_ne!(Some(&four), chosen(Hints { seed: 4, ..hints(4, 100) }).as_ref());
        // The answer's token and 16 more; two hints of three tokens, the begin and the question.
        let two = chosen(hints(4, 8 + 17)).unwrap();
        assert_eq!((two.len(), &two[1..]), (8, &four[7..]));
        assert_eq!(chosen(hints(4, 4 + 17)), None);
    }
}
