//! What became of the facts that are closest to those to be forgotten, as reports show it. `docs/evaluation.md` defines it.

use serde::{Deserialize, Serialize};

use super::format::{count, counted, percent, tick_percent};
use super::svg::{Axis, Bar, BarGroup, GroupedBars};
use super::table::Table;

/// What a fact shares with one that is to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kinship {
    /// The relation: the capital of another country.
    OtherSubject,
    /// The subject: another fact about the same country.
    OtherRelation,
    /// Both, in a relation with several objects.
    OtherObject,
    /// Neither: what neighbours are compared with.
    None,
}

impl Kinship {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Kinship::OtherSubject => "same relation, other subject",
            Kinship::OtherRelation => "same subject, other relation",
            Kinship::OtherObject => "same subject and relation, other object",
            Kinship::None => "other facts",
        }
    }
}

/// The probes of one kinship.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    /// What their facts share with one to be forgotten.
    pub kinship: Kinship,
    /// How many probes.
    pub probes: u64,
    /// How many of them the old model answers.
    pub known_probes: u64,
    /// How many facts those ask for.
    pub known_facts: u64,
    /// How many of the known probes the new model still answers.
    pub still: u64,
    /// Their share; none where nothing was known.
    pub kept: Option<f64>,
    /// The 95 % interval of that share (Wilson).
    pub interval: [f64; 2],
}

impl Neighbours {
    /// A group without probes.
    pub fn new(kinship: Kinship) -> Self {
        let (probes, known_probes, known_facts, still) = (0, 0, 0, 0);
        Neighbours { kinship, probes, known_probes, known_facts, still, kept: None, interval: [0.0, 1.0] }
    }
}

/// A line for each kinship.
pub fn table(neighbours: &[Neighbours]) -> Table {
    let titles = ["neighbours", ">probes", ">known", ">facts known", ">still", ">kept", ">95 % interval"];
    let mut table = Table::new(&titles);
    for group in neighbours {
        let [low, high] = group.interval;
        let interval = group.kept.map(|_| format!("{} to {}", percent(low), percent(high)));
        table.row([
            group.kinship.name().to_string(),
            count(group.probes),
            count(group.known_probes),
            count(group.known_facts),
            count(group.still),
            group.kept.map_or(String::new(), percent),
            interval.unwrap_or_default(),
        ]);
    }
    table
}

/// The kept shares as bars; none where nothing was known.
pub fn picture(neighbours: &[Neighbours]) -> Option<GroupedBars> {
    let group = |group: &Neighbours| {
        Some(BarGroup {
            heading: None,
            label: group.kinship.name().into(),
            note: counted(group.known_probes, "known probe"),
            bars: vec![Bar { value: group.kept?, interval: Some(group.interval) }],
        })
    };
    let groups: Vec<BarGroup> = neighbours.iter().filter_map(group).collect();
    (!groups.is_empty()).then(|| GroupedBars {
        title: "What is kept of the neighbours of what was to be forgotten".into(),
        description: "A bar for each way in which facts can be close to those to be forgotten.".into(),
        series: vec!["kept".into()],
        axis: Axis::linear("share of the known probes that are still answered", percent).with_ticks(tick_percent),
        limit: Some(1.0),
        groups,
    })
}
