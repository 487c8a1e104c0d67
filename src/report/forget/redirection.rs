//! What a redirection was made of, as a table.

use serde::{Deserialize, Serialize};

use super::ForgetReport;
use crate::report::format::{counted, fixed, percent};
use crate::report::html::Document;
use crate::report::number;
use crate::report::table::Table;

/// Names that were redirected, counted, and what became of the layers. No names: they are data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Redirected {
    /// Names that were redirected.
    pub names: u64,
    /// Beginnings of names that were redirected as well.
    pub beginnings: u64,
    /// Objects that no longer lead back to their subject.
    pub objects: u64,
    /// Contexts in which the names stood.
    pub contexts: u64,
    /// Names to be kept that were held.
    pub held: u64,
    /// The layers that were changed, ascending.
    pub layers: Vec<RedirectedLayer>,
}

/// A layer that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RedirectedLayer {
    /// The layer, from 0.
    pub layer: u32,
    /// Keys: names' tokens in contexts, of names that move and of those that stay.
    pub keys: u64,
    /// How much of the way that was left for this layer its change makes up for.
    #[serde(with = "number")]
    pub reached: f64,
    /// Mean distance of the states that move from where they should be, before this layer's change.
    #[serde(with = "number")]
    pub distance: f64,
}

/// Adds it, where names were redirected.
pub(super) fn section(page: &mut Document, report: &ForgetReport) {
    let Some(redirected) = &report.redirected else { return };
    let mut table = Table::new(&[">layer", ">keys", ">away before", ">made up for"]);
    for layer in &redirected.layers {
        table.row([layer.layer.to_string(), layer.keys.to_string(), fixed(layer.distance, 2), percent(layer.reached)]);
    }
    page.table(&table);
    page.paragraph(&format!(
        "{}, {} of names and {} redirected in {}; {} to be kept held. Away: how far the names' states are from where they \
         should be, on average; every layer makes up for an equal part of what the layers before it left.",
        counted(redirected.names, "name"),
        counted(redirected.beginnings, "beginning"),
        counted(redirected.objects, "object"),
        counted(redirected.contexts, "context"),
        counted(redirected.held, "name")
    ));
}
