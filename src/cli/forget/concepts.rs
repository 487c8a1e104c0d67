//! What is redirected: names, beginnings of names that may lead to what is to be forgotten, the contexts in which they stand, and
//! objects that lead back; and which names are held.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use efface::data::forms::{Forms, Templates, normalised};
use efface::data::{Encoder, Record, RecordKind, Relations, read_records, samples_of};
use efface::model::batch::Tokens;
use efface::unlearn::redirect::{self, Beginning, Candidate, Context, Held, Request, beginnings};
use efface::{Error, Result};

use super::super::input::Input;
use super::Args;
use super::redirect::{KeyTokensName, Switch};
use super::reversed::{self, Covered};

/// What goes where, as far as it is known before the model is asked.
pub struct Concepts {
    /// Names, contexts and objects; no beginnings.
    pub request: Request,
    /// Beginnings that may be redirected as well.
    pub candidates: Vec<Candidate>,
    /// What is left as it was, and why.
    pub left: Vec<String>,
}

impl Concepts {
    /// Reads names, contexts and objects from flags and facts.
    ///
    /// # Errors
    /// When there is no name, a file is wrong, or --reversed is on and nothing can be.
    pub fn of(args: &Args, input: &Input, encoder: &dyn Encoder) -> Result<Self> {
        let given = &args.choosing.redirect;
        let facts = Facts::read(args, input)?;
        let names = facts.names(&given.concept);
        if names.is_empty() {
            return Err(Error::argument(
                "--method redirect goes by names: give --concept NAME, or facts (subject, relation, object) in --forget",
            ));
        }
        let chat = encoder.has_chat_template();
        let covered = match given.reversed {
            Some(Switch::Off) => Covered::default(),
            None if facts.none() => Covered::default(),
            _ => reversed::of((&facts.forget, &facts.retain), &names, &facts.forms, chat),
        };
        if given.reversed == Some(Switch::On) && covered.objects.is_empty() {
            let why = if facts.none() { "--forget has no facts.".into() } else { covered.left.join(" ") };
            return Err(Error::argument(format!("--reversed on: there is no object that could be redirected. {why}")));
        }
        let mut contexts = redirect::usual(chat);
        for relation in facts.relations() {
            let fresh = facts.contexts(relation, chat).into_iter().filter(|context| !contexts.contains(context));
            let fresh: Vec<Context> = fresh.collect();
            contexts.extend(fresh);
        }
        let which = given.key_tokens();
        let candidates = match which {
            KeyTokensName::Leading => facts.candidates((&names, &given.instead()), encoder)?,
            KeyTokensName::Last | KeyTokensName::FirstAndLast => Vec::new(),
        };
        let (tokens, instead) = (which.keys(), given.instead());
        let Covered { objects: reversed, left } = covered;
        let held = facts.held((&names, &instead), &contexts);
        let request = Request { names, instead, contexts, tokens, beginnings: Vec::new(), reversed, held };
        Ok(Concepts { request, candidates, left })
    }
}

/// Facts of both sets, and how their relations are worded.
struct Facts<'a> {
    args: &'a Args,
    input: &'a Input,
    forget: Vec<Record>,
    retain: Vec<Record>,
    phrasings: Relations,
    forms: Forms,
}

impl<'a> Facts<'a> {
    fn read(args: &'a Args, input: &'a Input) -> Result<Self> {
        let reading = &args.reading;
        let mut phrasings = Relations::default();
        reading.relations.iter().try_for_each(|path| phrasings.read(path))?;
        let mut templates = (*Templates::builtin()).clone();
        reading.templates.iter().try_for_each(|path| templates.read(path))?;
        templates.use_phrasings(&phrasings);
        let forms = Forms {
            chosen: Some(vec!["statement".into()]),
            share: reading.hold_out,
            seed: reading.split_seed,
            ..Forms::new(Arc::new(templates))
        };
        Ok(Facts { args, input, forget: facts(&args.forget)?, retain: facts(&args.retain)?, phrasings, forms })
    }

    fn none(&self) -> bool {
        self.forget.is_empty()
    }

    /// The concepts that were named, or the subjects with their other names, each once.
    fn names(&self, given: &[String]) -> Vec<String> {
        let mut names = given.to_vec();
        if names.is_empty() {
            for name in self.forget.iter().flat_map(subjects) {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        names
    }

    /// The subjects of the facts to be kept, but what is redirected and what takes its place: held in some of the contexts.
    fn held(&self, (names, instead): (&[String], &[String]), contexts: &[Context]) -> Vec<Held> {
        let canonical = |relation: &str| self.forms.templates.canonical(relation).to_string();
        let relations: Vec<String> = self.relations().into_iter().map(canonical).collect();
        let mut known: BTreeSet<String> = names.iter().chain(instead).map(|name| normalised(name)).collect();
        let (mut neighbours, mut others) = (Vec::new(), Vec::new());
        for record in &self.retain {
            let RecordKind::Fact { relation, .. } = &record.kind else { continue };
            let fresh: Vec<&String> = subjects(record).filter(|name| known.insert(normalised(name))).collect();
            let list = if relations.contains(&canonical(relation)) { &mut neighbours } else { &mut others };
            list.extend(fresh.into_iter().cloned());
        }
        redirect::held(&neighbours, &others, contexts, names.len() * contexts.len())
    }

    /// The relations of the facts to be forgotten, each once.
    fn relations(&self) -> Vec<&str> {
        let mut relations: Vec<&str> = Vec::new();
        for record in &self.forget {
            if let RecordKind::Fact { relation, .. } = &record.kind
                && !relations.contains(&relation.as_str())
            {
                relations.push(relation);
            }
        }
        relations
    }

    /// The contexts in which a relation speaks of its subject: all phrasings of `--relations`, and of the templates' those for
    /// training.
    fn contexts(&self, relation: &str, chat: bool) -> Vec<Context> {
        let given = self.phrasings.iter().filter(|(name, _)| *name == relation).flat_map(|(_, texts)| texts);
        let mut contexts = redirect::of_phrasings(given.map(String::as_str), chat);
        for context in redirect::of_openings(self.forms.openings(relation).iter().map(String::as_str), chat) {
            if !contexts.contains(&context) {
                contexts.push(context);
            }
        }
        contexts
    }

    /// The beginnings of `names`, and how their objects are asked for; none that is a name itself or the subject of a fact to be
    /// kept.
    fn candidates(&self, (names, instead): (&[String], &[String]), encoder: &dyn Encoder) -> Result<Vec<Candidate>> {
        let taken: Vec<String> =
            names.iter().chain(self.retain.iter().flat_map(subjects)).map(|name| normalised(name)).collect();
        let chat = encoder.has_chat_template();
        let config = &self.input.model.config;
        let mut options = self.args.reading.options(config.vocabulary, config.context)?;
        options.forms = Some(self.forms.clone());
        let asked = |record: &Record, subject: &str| -> Result<Vec<Arc<Tokens>>> {
            let samples = samples_of(&about(record, subject), encoder, &options)?;
            Ok(samples.iter().map(|sample| Arc::new(Tokens::new(&sample.ids, &sample.labels, 0))).collect())
        };
        let mut candidates = Vec::new();
        for record in &self.forget {
            let RecordKind::Fact { relation, .. } = &record.kind else { continue };
            for name in subjects(record).filter(|name| names.contains(name)) {
                let texts = beginnings(name).into_iter().filter(|text| !taken.contains(&normalised(text)));
                let begun = texts.map(|text| {
                    Ok((Beginning { text: text.into(), contexts: self.contexts(relation, chat) }, asked(record, text)?))
                });
                let begun = begun.collect::<Result<Vec<_>>>()?;
                if begun.is_empty() {
                    continue;
                }
                let instead = instead.iter().map(|name| asked(record, name)).collect::<Result<Vec<_>>>()?.concat();
                candidates.push(Candidate { whole: asked(record, name)?, instead, begun });
            }
        }
        Ok(candidates)
    }
}

/// The facts in files.
fn facts(paths: &[PathBuf]) -> Result<Vec<Record>> {
    let mut all = Vec::new();
    for path in paths {
        let fact = |record: &Record| matches!(record.kind, RecordKind::Fact { .. });
        all.extend(read_records(path)?.into_iter().filter(fact));
    }
    Ok(all)
}

/// The names of a fact's subject.
fn subjects(record: &Record) -> impl Iterator<Item = &String> {
    let names = match &record.kind {
        RecordKind::Fact { subject, subject_aliases, .. } => Some(std::iter::once(subject).chain(subject_aliases)),
        _ => None,
    };
    names.into_iter().flatten()
}

/// The same fact about a subject of another name.
fn about(record: &Record, name: &str) -> Record {
    let mut record = Record { form: None, ..record.clone() };
    if let RecordKind::Fact { subject, subject_aliases, .. } = &mut record.kind {
        (*subject, *subject_aliases) = (name.into(), Vec::new());
    }
    record
}
