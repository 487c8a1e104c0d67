//! Which tokens are keys, and where their states should go: names in contexts become other names in the same contexts; an
//! object's name becomes one where the words before it ask for the subject, and stays what it is in other contexts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::KeyTokens;
use super::beginnings::Beginning;
use super::contexts::{Context, Named, write};
use super::states::{Place, states};
use crate::data::Encoder;
use crate::model::batch::Tokens;
use crate::stream::{Pass, Progress};
use crate::{Error, Result};

/// What is redirected where.
#[derive(Clone, Debug)]
pub struct Request {
    /// The concepts' names and other names.
    pub names: Vec<String>,
    /// The names whose states, the mean over them, take their place.
    pub instead: Vec<String>,
    /// In which contexts.
    pub contexts: Vec<Context>,
    /// Which of a name's tokens are keys.
    pub tokens: KeyTokens,
    /// Beginnings of names that are keys as well, at their last token.
    pub beginnings: Vec<Beginning>,
    /// Objects that shall no longer lead back to a concept.
    pub reversed: Vec<Reversed>,
}

/// An object that shall no longer lead back to its subject. Only its last token is a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reversed {
    /// The object's name.
    pub object: String,
    /// Contexts in which the subject is asked for.
    pub contexts: Vec<Context>,
}

/// The keys' tokens, and where their states should go.
pub(super) struct Keys {
    pub(super) samples: Vec<Arc<Tokens>>,
    pub(super) places: Vec<Place>,
    pub(super) targets: Vec<Vec<f32>>,
    /// For each key whether its state should stay what it is.
    pub(super) stays: Vec<bool>,
}

/// A name in a context.
struct Spot<'r> {
    name: &'r str,
    /// Its place among the contexts.
    context: usize,
    tokens: KeyTokens,
    stays: bool,
}

/// All names in their contexts, each once, and the contexts.
fn spots<'r>(request: &'r Request) -> (Vec<Spot<'r>>, Vec<&'r Context>) {
    let Request { names, contexts, tokens, beginnings, reversed, .. } = request;
    let mut all: Vec<&Context> = Vec::new();
    let mut numbers: HashMap<&Context, usize> = HashMap::new();
    let mut number = |context: &'r Context| -> usize {
        *numbers.entry(context).or_insert_with(|| {
            all.push(context);
            all.len() - 1
        })
    };
    let mut spots: Vec<Spot<'r>> = Vec::new();
    let mut add = |name: &'r str, context: usize, tokens: KeyTokens, stays: bool| {
        if !spots.iter().any(|spot| spot.name == name && spot.context == context) {
            spots.push(Spot { name, context, tokens, stays });
        }
    };
    for name in names {
        contexts.iter().for_each(|context| add(name.as_str(), number(context), *tokens, false));
    }
    for Beginning { text, contexts } in beginnings {
        contexts.iter().for_each(|context| add(text.as_str(), number(context), KeyTokens::Last, false));
    }
    for Reversed { object, contexts } in reversed {
        contexts.iter().for_each(|context| add(object.as_str(), number(context), KeyTokens::Last, false));
    }
    // What is redirected in one context cannot stay in the same.
    for Reversed { object, .. } in reversed {
        contexts.iter().for_each(|context| add(object.as_str(), number(context), KeyTokens::Last, true));
    }
    (spots, all)
}

/// The samples that redirecting runs, for planning: names, and what takes their place, in all contexts.
///
/// # Errors
/// When a name is wrong.
pub fn samples(encoder: &dyn Encoder, request: &Request) -> Result<Vec<Arc<Tokens>>> {
    let (spots, contexts) = spots(request);
    let own = spots.iter().map(|spot| (contexts[spot.context], spot.name));
    let instead = request.instead.iter().flat_map(|name| contexts.iter().map(move |context| (*context, name.as_str())));
    let pairs = own.chain(instead).enumerate();
    pairs.map(|(i, (context, name))| Ok(write(encoder, context, name)?.sample(i))).collect()
}

/// What the target of a key depends on: its context, whether it is a name's first token, and whether it begins the text. The
/// first token of a text is unlike all others where no special token stands before it (an attention sink: its state is many
/// times as long), so that its target is the state of a token that begins a text, too, and that of any other is not.
type Kind = (usize, bool, bool);

/// Finds the keys, and what their states should be.
pub(super) fn keys(
    pass: &Pass,
    encoder: &dyn Encoder,
    request: &Request,
    last_stage: usize,
    progress: Progress<'_>,
) -> Result<Keys> {
    if request.names.is_empty() || request.instead.is_empty() || request.contexts.is_empty() {
        return Err(Error::argument("redirecting takes a concept, a name that takes its place, and a context"));
    }
    let (spots, contexts) = spots(request);
    let mut keys = Keys { samples: Vec::new(), places: Vec::new(), targets: Vec::new(), stays: Vec::new() };
    let mut kinds: Vec<Kind> = Vec::new();
    for spot in &spots {
        let named = write(encoder, contexts[spot.context], spot.name)?;
        let number = keys.samples.len();
        let ends = match spot.tokens {
            KeyTokens::FirstAndLast if named.first < named.last() => vec![(true, named.first), (false, named.last())],
            _ => vec![(false, named.last())],
        };
        for (first, place) in ends {
            keys.places.push((number as u32, place as u32));
            keys.stays.push(spot.stays);
            kinds.push((spot.context, first, place == 0));
        }
        keys.samples.push(named.sample(number));
    }
    let moving: Vec<Kind> =
        kinds.iter().zip(&keys.stays).filter(|(_, stays)| !**stays).map(|(kind, _)| *kind).collect();
    let half = |number: u64| move |done: u64, of: u64| progress(number * of + done, 2 * of);
    let means = means(pass, encoder, (&request.instead, &contexts), &moving, last_stage, &half(0))?;
    keys.targets = match keys.stays.contains(&true) {
        true => states(pass, &keys.samples, &keys.places, None, last_stage, &half(1))?.states,
        false => vec![Vec::new(); kinds.len()],
    };
    for ((target, kind), stays) in keys.targets.iter_mut().zip(&kinds).zip(&keys.stays) {
        if !stays {
            target.clone_from(&means[kind]);
        }
    }
    Ok(keys)
}

/// A name in the first of the contexts that have a token before it.
fn behind(encoder: &dyn Encoder, contexts: &[&Context], name: &str) -> Result<Named> {
    for context in contexts {
        let named = write(encoder, context, name)?;
        if named.first > 0 {
            return Ok(named);
        }
    }
    Err(Error::argument(format!("{name:?} begins the text in every context, and what it takes the place of does not")))
}

/// The states of the names that take the place, for every kind of key: the mean over the names.
fn means(
    pass: &Pass,
    encoder: &dyn Encoder,
    (instead, contexts): (&[String], &[&Context]),
    kinds: &[Kind],
    last_stage: usize,
    progress: Progress<'_>,
) -> Result<BTreeMap<Kind, Vec<f32>>> {
    let kinds: std::collections::BTreeSet<Kind> = kinds.iter().copied().collect();
    let (mut samples, mut places) = (Vec::new(), Vec::new());
    for (context, first, begins) in &kinds {
        for name in instead {
            let mut named = write(encoder, contexts[*context], name)?;
            let place = |named: &Named| if *first { named.first } else { named.last() };
            if *begins {
                named = Named { ids: vec![named.ids[place(&named)]], first: 0 };
            } else if place(&named) == 0 {
                named = behind(encoder, contexts, name)?;
            }
            let (number, place) = (samples.len(), place(&named));
            places.push((number as u32, place as u32));
            samples.push(named.sample(number));
        }
    }
    let found = states(pass, &samples, &places, None, last_stage, progress)?.states;
    let mean = |states: &[Vec<f32>]| {
        let width = states[0].len();
        let sum = |i: usize| states.iter().map(|state| f64::from(state[i])).sum::<f64>();
        (0..width).map(|i| (sum(i) / states.len() as f64) as f32).collect()
    };
    Ok(kinds.into_iter().zip(found.chunks(instead.len())).map(|(kind, states)| (kind, mean(states))).collect())
}
