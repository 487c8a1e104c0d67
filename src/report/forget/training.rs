//! The points that a training was judged at, as a picture and a table.

use super::{ForgetReport, TrainingPoint};
use crate::report::format::{number, percent, signed_percent};
use crate::report::html::Document;
use crate::report::svg::{Axis, LineChart, LineSeries};
use crate::report::table::Table;

/// Adds them, where there are any.
pub(super) fn section(page: &mut Document, report: &ForgetReport) {
    if report.training.is_empty() {
        return;
    }
    if let Some(picture) = picture(report) {
        page.figure(
            picture.draw(),
            "Each point is a training that was tried: left is forgotten, low is intact. Points at the upper edge cost more \
             than the picture has room for.",
        );
    }
    let mut table =
        Table::new(&["phase", ">learning rate", ">step", ">scale", ">ridge", ">left", ">held-out loss", "taken"]);
    for point in &report.training {
        table.row([
            if point.repair { "recalibration" } else { "training" }.into(),
            number(point.learning_rate),
            point.step.to_string(),
            point.scale.map_or_else(String::new, number),
            point.ridge.map_or_else(String::new, number),
            percent(point.kept),
            signed_percent(point.loss_rise),
            if point.taken { "yes" } else { "" }.into(),
        ]);
    }
    page.table(&table);
    page.paragraph(
        "Left: of the probability of the answers to be forgotten, in wordings held out from the training (of all, where no \
         wording could be held out). Held-out loss: its rise on retain samples held out.",
    );
}

fn picture(report: &ForgetReport) -> Option<LineChart> {
    let points = |repair: bool| {
        let of = report.training.iter().filter(move |point| point.repair == repair && finite(point));
        of.map(|point| (point.kept, point.loss_rise)).collect::<Vec<_>>()
    };
    let series = [("training", points(false)), ("recalibration", points(true))];
    let series: Vec<LineSeries> = series
        .into_iter()
        .filter(|(_, points)| !points.is_empty())
        .map(|(name, points)| LineSeries { name: name.into(), points })
        .collect();
    if series.iter().map(|series| series.points.len()).sum::<usize>() < 2 {
        return None;
    }
    let limit = report.guard.as_ref().map(|guard| guard.limit);
    let taken = report.training.iter().rfind(|point| point.taken && finite(point));
    Some(LineChart {
        title: "What forgetting costs".into(),
        description: "Rise of the loss on held-out retain samples over what is left of the answers to be forgotten."
            .into(),
        x: Axis::linear("left of the answers to be forgotten", percent),
        y: Axis::linear("rise of the held-out loss", signed_percent),
        series,
        limit: limit.map(|limit| (limit, format!("limit {}", signed_percent(limit)))),
        mark: taken.map(|p| {
            (p.kept, p.loss_rise, format!("taken: {} left at {}", percent(p.kept), signed_percent(p.loss_rise)))
        }),
        ceiling: limit.map(|limit| (limit * 5.0).max(0.01)),
    })
}

fn finite(point: &TrainingPoint) -> bool {
    point.kept.is_finite() && point.loss_rise.is_finite()
}
