//! What a method that trains does, and the repair: settled, once flags and defaults are put together.

use efface::unlearn::methods::{Goal, RetainLoss, Score, Strength};

/// The learning rate with which a task vector is learned.
const LEARNING_RATE: f32 = 2e-4;
/// The learning rate with which the other trainings, or the search for their rate, begin, times the width of the model: a step
/// of Adam changes what a layer puts out by the rate times the width (Yang et al. 2022, arXiv 2203.03466). With it SimNPO
/// forgets in tens of steps where the width is 128.
const RATE_BY_WIDTH: f32 = 0.6;
/// The repair's learning rate, times the width of the model. Four times as much takes right answers from what the retain set does
/// not name (docs/experiments/smollm2_capitals).
const REPAIR_RATE_BY_WIDTH: f32 = 0.03;

/// What a training method does.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// By what its weights are chosen.
    pub mask: MaskBy,
    /// Which share of them is trained.
    pub share: f64,
    /// What the forget set's loss is.
    pub goal: Goal,
    /// What the forget set's samples are.
    pub answers: Answers,
    /// Steps.
    pub steps: usize,
    /// Samples of each set in a step.
    pub batch: usize,
    /// The learning rate that was given.
    pub learning_rate_given: Option<f32>,
    /// What the retain set counts for.
    pub retain_weight: f64,
    /// What is wanted of the retain set.
    pub retain_loss: RetainLoss,
    /// How strong it is; none: searched.
    pub strength: Option<Strength>,
    /// Whether what is learned is taken back.
    pub task_vector: bool,
}

/// By what weights are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaskBy {
    /// The two importances.
    Ratio,
    /// A score made of gradients.
    Score(Score),
    /// All that may change.
    All,
}

/// What is trained on in place of the forget set.
#[derive(Clone, Debug)]
pub enum Answers {
    /// Itself.
    Own,
    /// Its questions, refused in one of these ways.
    Refused(Vec<String>),
    /// Its questions with the answers of others.
    Swapped,
}

/// The repair.
#[derive(Clone, Copy, Debug)]
pub struct Repair {
    /// Steps, at most.
    pub steps: usize,
    /// Samples of each set in a step.
    pub batch: usize,
    /// The learning rate that was given.
    pub learning_rate_given: Option<f32>,
}

impl Repair {
    /// The learning rate for a model of this width.
    pub fn learning_rate(&self, width: usize) -> f32 {
        self.learning_rate_given.unwrap_or(REPAIR_RATE_BY_WIDTH / width as f32)
    }
}

impl Recipe {
    /// The learning rate, or that with which a search begins, for a model of this width.
    pub fn learning_rate(&self, width: usize) -> f32 {
        let default = if self.task_vector { LEARNING_RATE } else { RATE_BY_WIDTH / width as f32 };
        self.learning_rate_given.unwrap_or(default)
    }
}
