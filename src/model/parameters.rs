//! The parameters of a model, as the checkpoint names them, and the stages in which a pass visits them.

use super::config::Config;
use crate::kernels::attention::Heads;

/// A parameter's number in [`Model::parameters`](super::Model).
pub type ParameterId = usize;

/// What a parameter is to the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The matrix of a linear layer: packed on the device as it is stored.
    Matrix,
    /// A table of rows looked up by token or position: packed on the device as it is stored.
    Table,
    /// A bias or a norm's gain: `f32` on the device.
    Vector,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The tensor's name in the checkpoint. A tied weight goes by the embedding's name.
    pub name: String,
    /// Other names under which the checkpoint stores a copy.
    pub copies: Vec<String>,
    /// Shape as stored: `[rows, columns]` or `[width]`.
    pub shape: Vec<usize>,
    /// What it is to the pass.
    pub role: Role,
    /// The layer it belongs to, if any.
    pub layer: Option<usize>,
    /// The kind of tensor, for tables and pictures: its name without the layer, e.g. `mlp.down_proj`.
    pub kind: String,
}

impl Parameter {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Rows as stored; a vector is one row.
    pub fn rows(&self) -> usize {
        if self.shape.len() == 2 { self.shape[0] } else { 1 }
    }

    /// Columns as stored.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

/// How a linear layer's matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[outputs, inputs]`: most families.
    OutIn,
    /// `[inputs, outputs]`: GPT-2.
    InOut,
}

/// A linear layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// The matrix.
    pub weight: ParameterId,
    /// The bias, if it has one.
    pub bias: Option<ParameterId>,
    /// How the matrix is stored.
    pub layout: Layout,
    /// Features in.
    pub inputs: usize,
    /// Features out.
    pub outputs: usize,
}

/// A norm: RMSNorm where it has no bias, LayerNorm where it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// The gain.
    pub gain: ParameterId,
    /// The bias of a LayerNorm.
    pub bias: Option<ParameterId>,
    /// Added to the variance.
    pub epsilon: f32,
    /// Features.
    pub width: usize,
}

/// The first stage: rows of a table for every token, and for every position where positions are learned.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingStage {
    /// The token embedding.
    pub tokens: ParameterId,
    /// The position embedding.
    pub positions: Option<ParameterId>,
}

/// Half a layer: `x + output(attention(norm(x)))`.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionStage {
    /// The norm before it.
    pub norm: Norm,
    /// The input projections with the column of the joint query, key and value row that each starts at.
    pub inputs: Vec<(Linear, usize)>,
    /// Norms of each head's queries and keys (Qwen 3), applied before the rotation.
    pub head_norms: Option<[Norm; 2]>,
    /// The output projection.
    pub output: Linear,
    /// Shape of the heads.
    pub heads: Heads,
    /// Whether queries and keys are rotated.
    pub rotary: bool,
}

/// The other half of a layer: `x + down(act(gate(n)) ⊙ up(n))`, or `x + down(act(up(n)))` without a gate, with `n = norm(x)`.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpStage {
    /// The norm before it.
    pub norm: Norm,
    /// The gate, where the block is gated.
    pub gate: Option<Linear>,
    /// The projection up.
    pub up: Linear,
    /// The projection down.
    pub down: Linear,
}

/// The last stage: norm, and the product with the head, a slice of the vocabulary at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadStage {
    /// The norm before it.
    pub norm: Norm,
    /// The head's matrix `[vocabulary, hidden]`; the token embedding where they are tied.
    pub weight: ParameterId,
}

/// A stage: the part of the model that a pass brings in, runs and lets go.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// The embedding.
    Embedding(EmbeddingStage),
    /// A layer's attention.
    Attention(AttentionStage),
    /// A layer's feed-forward block.
    Mlp(MlpStage),
    /// The final norm and the head.
    Head(HeadStage),
}

impl Stage {
    /// The parameters that the stage computes with. A tied weight belongs to both the first and the last stage.
    pub fn parameters(&self) -> Vec<ParameterId> {
        let norm = |norm: &Norm| [Some(norm.gain), norm.bias].into_iter().flatten().collect::<Vec<_>>();
        let linear = |linear: &Linear| [Some(linear.weight), linear.bias].into_iter().flatten().collect::<Vec<_>>();
        match self {
            Stage::Embedding(stage) => [Some(stage.tokens), stage.positions].into_iter().flatten().collect(),
            Stage::Attention(stage) => {
                let mut found = norm(&stage.norm);
                found.extend(stage.inputs.iter().flat_map(|(input, _)| linear(input)));
                found.extend(stage.head_norms.iter().flatten().flat_map(norm));
                found.extend(linear(&stage.output));
                found
            }
            Stage::Mlp(stage) => {
                let mut found = norm(&stage.norm);
                found.extend(stage.gate.iter().flat_map(linear));
                found.extend(linear(&stage.up));
                found.extend(linear(&stage.down));
                found
            }
            Stage::Head(stage) => {
                let mut found = norm(&stage.norm);
                found.push(stage.weight);
                found
            }
        }
    }
}

/// Collects parameters while a family's description is built.
pub(super) struct Builder<'a> {
    pub(super) config: &'a Config,
    pub(super) parameters: Vec<Parameter>,
    layer: Option<usize>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        Builder { config, parameters: Vec::new(), layer: None }
    }

    pub(super) fn layer(&mut self, layer: Option<usize>) {
        self.layer = layer;
    }

    /// Adds the parameter `prefix` + `kind` + `suffix`.
    fn add(&mut self, prefix: &str, kind: &str, suffix: &str, shape: Vec<usize>, role: Role) -> ParameterId {
        let kind_name = if suffix == ".weight" { kind.to_string() } else { format!("{kind}{suffix}") };
        self.parameters.push(Parameter {
            name: format!("{prefix}{kind}{suffix}"),
            copies: Vec::new(),
            shape,
            role,
            layer: self.layer,
            kind: kind_name,
        });
        self.parameters.len() - 1
    }

    pub(super) fn table(&mut self, prefix: &str, kind: &str, rows: usize) -> ParameterId {
        self.add(prefix, kind, ".weight", vec![rows, self.config.hidden], Role::Table)
    }

    pub(super) fn norm(&mut self, prefix: &str, kind: &str, width: usize, with_bias: bool) -> Norm {
        let gain = self.add(prefix, kind, ".weight", vec![width], Role::Vector);
        let bias = with_bias.then(|| self.add(prefix, kind, ".bias", vec![width], Role::Vector));
        Norm { gain, bias, epsilon: self.config.epsilon, width }
    }

    pub(super) fn linear(
        &mut self,
        prefix: &str,
        kind: &str,
        [inputs, outputs]: [usize; 2],
        with_bias: bool,
        layout: Layout,
    ) -> Linear {
        let shape = if layout == Layout::OutIn { vec![outputs, inputs] } else { vec![inputs, outputs] };
        let weight = self.add(prefix, kind, ".weight", shape, Role::Matrix);
        let bias = with_bias.then(|| self.add(prefix, kind, ".bias", vec![outputs], Role::Vector));
        Linear { weight, bias, layout, inputs, outputs }
    }
}
