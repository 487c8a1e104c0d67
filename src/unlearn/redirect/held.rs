//! Names that are to be kept and stay what they are: what tells one country from another is little beside what makes both countries,
//! and a change that is learnt from the names to be redirected alone moves their neighbours along.

use super::contexts::Context;

/// Contexts in which a name is held. On SmolLM2-135M three, seven or all of 21 protect alike.
const CONTEXTS: usize = 3;
/// So many keys are held at least, where there are as many, however few are redirected.
const LEAST: usize = 256;

/// A name to be kept, and contexts in which its state stays what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The name.
    pub name: String,
    /// Where.
    pub contexts: Vec<Context>,
}

/// Names that are held, each in three of the contexts, which take turns. Where they are too many, as many as make about as many keys as
/// are redirected (`moving`): `neighbours` (subjects of the same relations) before `others`, evenly from each.
pub fn held(neighbours: &[String], others: &[String], contexts: &[Context], moving: usize) -> Vec<Held> {
    let each = CONTEXTS.min(contexts.len()).max(1);
    let most = moving.max(LEAST) / each;
    let near = most.min(neighbours.len());
    let chosen = evenly(neighbours, near).chain(evenly(others, most - near));
    let turns = |i: usize| (0..each).map(move |turn| (i + turn * contexts.len() / each) % contexts.len().max(1));
    let one = |(i, name): (usize, &String)| Held {
        name: name.clone(),
        contexts: turns(i).filter_map(|at| contexts.get(at).cloned()).collect(),
    };
    chosen.enumerate().map(one).collect()
}

/// At most `count` of `names`, evenly spaced.
fn evenly(names: &[String], count: usize) -> impl Iterator<Item = &String> {
    let count = count.min(names.len());
    (0..count).map(move |i| &names[i * names.len() / count])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn names(count: usize, kind: &str) -> Vec<String> {
        (0..count).map(|i| format!("{kind} {i}")).collect()
    }

    fn contexts(count: usize) -> Vec<Context> {
        (0..count).map(|i| Context::Plain(format!("{i} "))).collect()
    }

    #[test]
    fn every_name_is_held_in_three_contexts_that_take_turns() {
        let all = held(&names(25, "near"), &names(40, "far"), &contexts(21), 7);
        assert_eq!(all.len(), 65);
        let distinct = |one: &Held| one.contexts.iter().collect::<HashSet<_>>().len() == 3;
        assert!(all.iter().all(distinct));
        let used: HashSet<&Context> = all.iter().flat_map(|one| &one.contexts).collect();
        assert_eq!(used.len(), 21);
        assert_eq!(held(&names(2, "near"), &[], &contexts(2), 7)[1].contexts.len(), 2);
        assert!(held(&[], &[], &contexts(4), 7).is_empty());
    }

    #[test]
    fn too_many_names_are_thinned_out_evenly_neighbours_last() {
        let count = |all: &[Held], kind: &str| all.iter().filter(|one| one.name.starts_with(kind)).count();
        let all = held(&names(100, "near"), &names(1000, "far"), &contexts(9), 600);
        assert_eq!((count(&all, "near"), count(&all, "far")), (100, 100));
        assert!(all.iter().any(|one| one.name == "far 990"));
        let all = held(&names(1000, "near"), &names(9, "far"), &contexts(9), 600);
        assert_eq!((count(&all, "near"), count(&all, "far")), (200, 0));
        assert!(all[199].name == "near 995" && all.iter().map(|one| &one.name).collect::<HashSet<_>>().len() == 200);
    }
}
