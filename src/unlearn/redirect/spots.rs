//! Which tokens are keys, and where their states should go: names in contexts become other names in the same contexts, which stay
//! what they are; an object's name becomes one where the words before it ask for the subject, and stays what it is in other contexts;
//! names to be kept stay what they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::KeyTokens;
use super::beginnings::Beginning;
use super::contexts::{Context, Named, write};
use super::covariance::Site;
use super::held::Held;
use super::states::{Place, States, states};
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
    /// Names that stay what they are, where they are not redirected.
    pub held: Vec<Held>,
}

/// An object that shall no longer lead back to its subject. Only its last token is a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reversed {
    /// The object's name.
    pub object: String,
    /// Contexts in which the subject is asked for.
    pub contexts: Vec<Context>,
}

/// The keys' tokens, what they are, and where their states should go.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) samples: Vec<Arc<Tokens>>,
    pub(super) places: Vec<Place>,
    /// What enters the first edited layer, and the states.
    pub(super) now: States,
    pub(super) targets: Vec<Vec<f32>>,
    /// For each key whether its state should stay what it is.
    pub(super) stays: Vec<bool>,
}

impl Keys {
    /// The mean Euclidean distance of the states that should move from where they should be.
    pub(super) fn distance(&self, states: &[Vec<f32>]) -> f64 {
        let one = |(a, b): (&Vec<f32>, &Vec<f32>)| {
            a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
        };
        let all = self.targets.iter().zip(states).zip(&self.stays);
        let moving: Vec<f64> = all.filter(|(_, stays)| !**stays).map(|(pair, _)| one(pair)).collect();
        moving.iter().sum::<f64>() / moving.len().max(1) as f64
    }
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
    let Request { names, instead, contexts, tokens, beginnings, reversed, held } = request;
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
    // Without it, what takes the names' place would be moved along with them, and the next request would run after it.
    for name in instead {
        contexts.iter().for_each(|context| add(name.as_str(), number(context), *tokens, true));
    }
    for Held { name, contexts } in held {
        contexts.iter().for_each(|context| add(name.as_str(), number(context), *tokens, true));
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

/// Finds the keys, what enters the first edited layer there, the states after the last one, and what they should be.
pub(super) fn keys(
    pass: &Pass,
    encoder: &dyn Encoder,
    request: &Request,
    (first_site, last_stage): (&Site, usize),
    progress: Progress<'_>,
) -> Result<Keys> {
    let Request { names, instead, contexts, .. } = request;
    if names.is_empty() || instead.is_empty() || contexts.is_empty() {
        return Err(Error::argument("redirecting takes a concept, a name that takes its place, and a context"));
    }
    let (spots, contexts) = spots(request);
    let (mut samples, mut places, mut stays) = (Vec::new(), Vec::new(), Vec::new());
    let mut kinds: Vec<Kind> = Vec::new();
    for spot in &spots {
        let named = write(encoder, contexts[spot.context], spot.name)?;
        let ends = match spot.tokens {
            KeyTokens::FirstAndLast if named.first < named.last() => vec![(true, named.first), (false, named.last())],
            _ => vec![(false, named.last())],
        };
        for (first, place) in ends {
            places.push((samples.len() as u32, place as u32));
            stays.push(spot.stays);
            kinds.push((spot.context, first, place == 0));
        }
        samples.push(named.sample(samples.len()));
    }
    let moving: BTreeSet<Kind> =
        kinds.iter().zip(&stays).filter(|(_, stays)| !**stays).map(|(kind, _)| *kind).collect();
    let (own_samples, own) = (samples.len(), places.len());
    for kind in &moving {
        for name in instead {
            let (named, place) = taking_place(encoder, &contexts, name, *kind)?;
            places.push((samples.len() as u32, place as u32));
            samples.push(named.sample(samples.len()));
        }
    }
    let mut now = states(pass, &samples, &places, Some(first_site), last_stage, progress)?;
    samples.truncate(own_samples);
    places.truncate(own);
    now.keys.truncate(own);
    let means: Vec<Vec<f32>> = now.states.split_off(own).chunks(instead.len()).map(mean).collect();
    let means: BTreeMap<Kind, Vec<f32>> = moving.into_iter().zip(means).collect();
    let targets = kinds.iter().zip(&stays).zip(&now.states);
    let targets = targets.map(|((kind, stays), state)| if *stays { state } else { &means[kind] }.clone()).collect();
    Ok(Keys { samples, places, now, targets, stays })
}

/// A name that takes the place of keys of a kind, and its token that does.
fn taking_place(encoder: &dyn Encoder, contexts: &[&Context], name: &str, kind: Kind) -> Result<(Named, usize)> {
    let (context, first, begins) = kind;
    let place = |named: &Named| if first { named.first } else { named.last() };
    let mut named = write(encoder, contexts[context], name)?;
    if begins {
        named = Named { ids: vec![named.ids[place(&named)]], first: 0 };
    } else if place(&named) == 0 {
        named = behind(encoder, contexts, name)?;
    }
    let place = place(&named);
    Ok((named, place))
}

/// The mean of states.
fn mean(states: &[Vec<f32>]) -> Vec<f32> {
    let sum = |i: usize| states.iter().map(|state| f64::from(state[i])).sum::<f64>();
    (0..states[0].len()).map(|i| (sum(i) / states.len() as f64) as f32).collect()
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
