//! The attention heads that were tried, as a table.

use super::{ForgetReport, HeadPoint};
use crate::report::format::fixed;
use crate::report::html::Document;
use crate::report::table::Table;

/// Heads that are listed of each round, beside those that were chosen.
const MOST: usize = 8;

/// Adds them, where there are any.
pub(super) fn section(page: &mut Document, report: &ForgetReport) {
    if report.heads.is_empty() {
        return;
    }
    let mut table = Table::new(&[">round", ">layer", ">head", ">forget set", ">retain set", ">score", "chosen"]);
    let mut rounds: Vec<u64> = report.heads.iter().map(|point| point.round).collect();
    rounds.dedup();
    for round in rounds {
        let mut points: Vec<&HeadPoint> = report.heads.iter().filter(|point| point.round == round).collect();
        points.sort_by(|a, b| b.taken.cmp(&a.taken).then(b.score.total_cmp(&a.score)));
        let taken = points.iter().filter(|point| point.taken).count();
        for point in points.into_iter().take(taken + MOST) {
            table.row([
                point.round.to_string(),
                point.layer.to_string(),
                point.head.to_string(),
                fixed(point.forget_rise, 4),
                fixed(point.retain_rise, 4),
                fixed(point.score, 4),
                if point.taken { "yes" } else { "" }.into(),
            ]);
        }
    }
    page.table(&table);
    page.paragraph(&format!(
        "Attention heads whose maps were pulled towards the identity, each beside those chosen in the rounds before: the rise of \
         the mean losses in nats. {} were tried in all; the best of each round are listed, report.json has the rest.",
        report.heads.len()
    ));
}
