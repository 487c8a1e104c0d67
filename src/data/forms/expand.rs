//! Records to expressions: every template filled from every record, what comes out twice or on both sides of the split refused.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::Forms;
use super::expression::{Expression, Refusal};
use super::split::{Side, combined};
use super::templates::Form;
use super::told::{Made, Told};
use super::world::World;
use crate::Result;
use crate::data::{Origin, Record};

/// Tells `records` in the chosen forms. The expressions of each record stand in one list (empty for a record that is taken as it
/// is: tokens, completions, conversations, and whatever carries a `form` of its own); also what was refused.
///
/// The whole set is looked at: wrong options come from the other facts of a relation, and no text of the held-out side equals,
/// [`normalised`], a text that could be trained on.
///
/// # Errors
/// If a form is unknown or a figure out of range.
pub fn expand(records: &[Record], forms: &Forms) -> Result<(Vec<Vec<Expression>>, Vec<Refusal>)> {
    forms.check()?;
    let world = World::of(records, &forms.templates);
    let plan = Plan::of(forms);
    let mut refused = Vec::new();
    let mut made: Vec<Vec<Made>> = Vec::with_capacity(records.len());
    let mut known: HashMap<String, &Origin> = HashMap::new();
    for record in records {
        let told = Told::of(record, forms, &world);
        let first = told.as_ref().map(|told| *known.entry(told.identity()).or_insert(&record.origin));
        match (told, first) {
            (Some(_), Some(first)) if *first != record.origin => {
                let reason = format!("says the same as {} line {}", first.path.display(), first.line);
                refused.push(Refusal { origin: record.origin.clone(), form: None, reason });
                made.push(Vec::new());
            }
            (Some(told), _) => made.push(plan.tell(&told, &mut refused)),
            (None, _) => made.push(Vec::new()),
        }
    }
    let trained: HashSet<&str> = made.iter().flatten().filter(|m| m.side() == Side::Train).map(|m| &*m.key).collect();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut kept: Vec<Vec<bool>> = Vec::with_capacity(made.len());
    for (record, list) in records.iter().zip(&made) {
        let mut keep = vec![false; list.len()];
        for (one, keep) in list.iter().zip(&mut keep) {
            if one.side() != forms.side || !forms.takes(&one.expression.form) {
                continue;
            }
            let trained_on = one.side() == Side::HeldOut && trained.contains(&*one.key);
            let reason = match (trained_on, seen.insert(&one.key)) {
                (true, _) => format!("`{}` makes a text that is trained on", one.expression.phrasing),
                (_, false) => format!("`{}` makes a text that is there already", one.expression.phrasing),
                _ => {
                    *keep = true;
                    continue;
                }
            };
            let form = Some(one.expression.form.clone());
            refused.push(Refusal { origin: record.origin.clone(), form, reason });
        }
        kept.push(keep);
    }
    let of_record = |(list, keep): (Vec<Made>, Vec<bool>)| {
        let list = list.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(one, _)| one).collect();
        plan.limited(list)
    };
    Ok((made.into_iter().zip(kept).map(of_record).collect(), refused))
}

/// A form under its name, with the side of each template.
type SidedForm<'f> = (Arc<str>, &'f Form, Vec<Option<Side>>);

/// The sides of every template, and of every wording as relations come up.
struct Plan<'f> {
    forms: &'f Forms,
    templates: Vec<SidedForm<'f>>,
}

impl<'f> Plan<'f> {
    fn of(forms: &'f Forms) -> Self {
        let one = |(name, form): &'f (String, Form)| {
            (Arc::from(name.as_str()), form, form.sides(name, forms.share, forms.seed))
        };
        Plan { forms, templates: forms.templates.forms.iter().map(one).collect() }
    }

    /// Every expression of a record, on both sides and in all forms; for each chosen form that makes none, why.
    fn tell(&self, told: &Told<'_>, refused: &mut Vec<Refusal>) -> Vec<Made> {
        let mut made = Vec::new();
        for (name, form, sides) in &self.templates {
            let held_out = self.forms.hold_out.iter().any(|held_out| **held_out == **name);
            let before = made.len();
            let mut problem = None;
            for ((template, escape), side) in form.templates.iter().zip(&form.escape).zip(sides) {
                if !told.hears(template.audience) {
                    continue;
                }
                for (wording, wording_side) in told.wordings(template, &mut problem) {
                    let Some(side) = combined(*side, wording_side, held_out) else { continue };
                    match told.expression(name, template, wording, *escape, side) {
                        Ok(one) => made.push(one),
                        Err(reason) => problem = problem.or(Some(reason)),
                    }
                }
            }
            if self.forms.takes(name) && !made[before..].iter().any(|one| one.side() == self.forms.side) {
                let reason = match (problem, self.forms.side) {
                    (Some(problem), _) => problem,
                    (None, Side::Train) if held_out => continue,
                    (None, side) => format!("no {} phrasing for this kind of record", side.name()),
                };
                refused.push(Refusal { origin: told.record.origin.clone(), form: Some(name.clone()), reason });
            }
        }
        made
    }

    /// At most so many of each form, drawn; in their old order.
    fn limited(&self, list: Vec<Made>) -> Vec<Expression> {
        let mut by_form: BTreeMap<Arc<str>, Vec<(u64, usize)>> = BTreeMap::new();
        for (at, one) in list.iter().enumerate() {
            by_form.entry(one.expression.form.clone()).or_default().push((one.draw, at));
        }
        let chosen: HashSet<usize> = by_form
            .into_values()
            .flat_map(|mut drawn| {
                drawn.sort_unstable();
                drawn.into_iter().take(self.forms.per_form).map(|(_, at)| at)
            })
            .collect();
        let list = list.into_iter().enumerate().filter(|(at, _)| chosen.contains(at));
        list.map(|(_, one)| one.expression).collect()
    }
}
