//! Objects that shall no longer lead back to the subjects that are redirected: which they are, and where.

use std::collections::{BTreeMap, BTreeSet};

use efface::data::forms::{Forms, normalised};
use efface::data::{Record, RecordKind};
use efface::report::format::counted;
use efface::unlearn::redirect::{Reversed, of_openings};

/// Objects, and why others were left alone, in a sentence for each reason.
#[derive(Debug, Default)]
pub struct Covered {
    /// The objects with their contexts.
    pub objects: Vec<Reversed>,
    /// What was left alone, and why.
    pub left: Vec<String>,
}

/// The objects, and their other names, of the facts in `forget` about one of `names` (simplified as texts are compared). An object
/// leads back to its subject only where it belongs to that subject alone; and what a fact in `retain` speaks of is to be kept.
pub fn of((forget, retain): (&[Record], &[Record]), names: &[String], forms: &Forms, chat: bool) -> Covered {
    let named: BTreeSet<String> = names.iter().map(|name| normalised(name)).collect();
    let mut subjects: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut kept: BTreeSet<String> = BTreeSet::new();
    for (records, retained) in [(forget, false), (retain, true)] {
        for record in records {
            let RecordKind::Fact { subject, relation, object, .. } = &record.kind else { continue };
            let key = (forms.templates.canonical(relation).to_string(), normalised(object));
            subjects.entry(key).or_default().insert(normalised(subject));
            if retained {
                kept.extend([normalised(subject), normalised(object)]);
            }
        }
    }
    let mut covered = Covered::default();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut refuse = |reason: String| *refused.entry(reason).or_default() += 1;
    for record in forget {
        let RecordKind::Fact { subject, relation, object, aliases, .. } = &record.kind else { continue };
        if !named.contains(&normalised(subject)) {
            continue;
        }
        let openings = forms.reversed_openings(relation);
        let key = (forms.templates.canonical(relation).to_string(), normalised(object));
        if subjects.get(&key).is_some_and(|subjects| subjects.len() > 1) {
            refuse(format!("an object of the relation `{relation}` belongs to several subjects"));
        } else if kept.contains(&normalised(object)) {
            refuse("a fact to be kept speaks of the object".into());
        } else if openings.is_empty() {
            refuse(format!("no wording of the relation `{relation}` goes from the object to the subject"));
        } else {
            let contexts = of_openings(openings.iter().map(String::as_str), chat);
            for object in std::iter::once(object).chain(aliases) {
                let known = covered.objects.iter_mut().find(|known| known.object == *object);
                match known {
                    Some(known) => {
                        let fresh = contexts.iter().filter(|context| !known.contexts.contains(context)).cloned();
                        let fresh: Vec<_> = fresh.collect();
                        known.contexts.extend(fresh);
                    }
                    None => covered.objects.push(Reversed { object: object.clone(), contexts: contexts.clone() }),
                }
            }
        }
    }
    let sentence = |(reason, count): (String, usize)| {
        let stay = if count == 1 { "stays as it was" } else { "stay as they were" };
        format!("{} asked in reverse {stay}: {reason}.", counted(count as u64, "fact"))
    };
    covered.left = refused.into_iter().map(sentence).collect();
    covered
}
