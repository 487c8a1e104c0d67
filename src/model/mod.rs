//! Architectures. A family is a description: parameters with the checkpoint's names, and stages that say how they are used
//! (`families.rs`). The stages' forward and backward are written once for all families and both devices
//! (`embedding.rs`, `attention.rs`, `mlp.rs`, `head.rs`), and know nothing of what the pass is run for: at every site,
//! backward hands activation and delta to a [`Sink`](sink::Sink).

pub mod attention;
pub mod batch;
pub mod config;
pub mod embedding;
mod families;
pub mod head;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod parameters;
pub mod rope;
pub mod sink;
pub mod weights;

use std::collections::HashSet;

pub use batch::Batch;
pub use config::{Config, Family};
pub use parameters::{Parameter, ParameterId, Role, Stage};

use crate::checkpoint::Checkpoint;
use crate::{Error, Result};

/// A model: its config, its parameters and the stages of a pass, in order.
#[derive(Clone, Debug)]
pub struct Model {
    /// The numbers that define it.
    pub config: Config,
    /// Every parameter, as the checkpoint names it.
    pub parameters: Vec<Parameter>,
    /// Embedding, attention and feed-forward block of each layer, head.
    pub stages: Vec<Stage>,
}

impl Model {
    /// Reads a checkpoint's config and holds its tensors against it.
    ///
    /// # Errors
    /// When the family or an option is not supported, or a tensor is missing, superfluous or has a wrong shape or type.
    pub fn of(checkpoint: &Checkpoint) -> Result<Model> {
        let path = checkpoint.dir().join("config.json");
        let config = Config::read(&path, checkpoint.config())?;
        let embedding = families::embedding_name(config.family);
        let prefix = families::prefixes(config.family)
            .into_iter()
            .find(|prefix| checkpoint.tensor(&format!("{prefix}{embedding}")).is_some())
            .unwrap_or_else(|| families::prefixes(config.family)[0]);
        let (mut parameters, stages) = families::describe(&config, prefix);
        let mut known = HashSet::new();
        for parameter in &mut parameters {
            check(checkpoint, &parameter.name, &parameter.shape)?;
            parameter.copies.retain(|copy| checkpoint.tensor(copy).is_some());
            for copy in &parameter.copies {
                check(checkpoint, copy, &parameter.shape)?;
                check_copy(checkpoint, &parameter.name, copy)?;
            }
            known.extend(std::iter::once(&parameter.name).chain(&parameter.copies).cloned());
        }
        for tensor in checkpoint.tensors() {
            if !known.contains(&tensor.name) && !families::is_buffer(&tensor.name) {
                let problem = format!("the {} config has no such tensor", config.family.name());
                return Err(Error::file(checkpoint.dir(), &tensor.name, problem));
            }
        }
        Ok(Model { config, parameters, stages })
    }

    /// All parameters' elements together.
    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().map(Parameter::count).sum()
    }

    /// The stage whose backward visit completes a parameter's gradient: the first that uses it.
    pub fn home(&self, parameter: ParameterId) -> usize {
        self.stages.iter().position(|stage| stage.parameters().contains(&parameter)).unwrap_or(0)
    }

    /// What some of its parameters are called together, for reports of progress and time: what the names of the matrices
    /// and tables among them have in common.
    pub fn name_of(&self, parameters: &[ParameterId]) -> String {
        let names = |vectors: bool| -> Vec<Vec<&str>> {
            let all = parameters.iter().filter_map(|id| self.parameters.get(*id));
            let wanted = all.filter(|parameter| vectors || parameter.role != Role::Vector);
            wanted.map(|parameter| parameter.name.trim_end_matches(".weight").split('.').collect()).collect()
        };
        let matrices = names(false);
        let names = if matrices.is_empty() { names(true) } else { matrices };
        let Some((first, others)) = names.split_first() else { return "nothing".into() };
        let alike = |i: &usize| others.iter().all(|other| other.get(*i) == first.get(*i));
        let common = (0..first.len()).take_while(alike).count().max(1);
        first[..common].join(".")
    }

    /// The embedding's parameter where it is also the head's.
    pub fn tied(&self) -> Option<ParameterId> {
        match self.stages.last() {
            Some(Stage::Head(head)) if self.config.tied => Some(head.weight),
            _ => None,
        }
    }
}

fn check(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Result<()> {
    let tensor = checkpoint.tensor(name).ok_or_else(|| {
        Error::file(checkpoint.dir(), name, format!("the tensor is missing; its shape would be {shape:?}"))
    })?;
    if tensor.shape != shape {
        let problem = format!("the shape is {:?}; by the config it would be {shape:?}", tensor.shape);
        return Err(Error::file(checkpoint.dir(), name, problem));
    }
    if tensor.element.is_none() {
        let problem = format!("the type is {}; right are F32, F16 and BF16", tensor.dtype);
        return Err(Error::file(checkpoint.dir(), name, problem));
    }
    Ok(())
}

/// Copies of one parameter that differ would make two models of one checkpoint, depending on who reads it.
fn check_copy(checkpoint: &Checkpoint, name: &str, copy: &str) -> Result<()> {
    let bytes = |name| checkpoint.tensor(name).map(|tensor| (tensor.element, checkpoint.bytes(tensor)));
    if bytes(name) == bytes(copy) {
        return Ok(());
    }
    let problem = format!("differs from {name}, although the config ties them (tie_word_embeddings)");
    Err(Error::file(checkpoint.dir(), copy, problem))
}
