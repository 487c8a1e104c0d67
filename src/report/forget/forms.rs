//! What the forms of the forget set agree on, as a picture and a sentence.

use super::ForgetReport;
use crate::report::format::percent;
use crate::report::html::Document;
use crate::report::svg::Matrix;

/// The section, where forms were measured one by one.
pub(super) fn section(page: &mut Document, report: &ForgetReport) {
    let Some(overlap) = &report.form_overlap else { return };
    let names: Vec<String> = overlap.forms.clone();
    let picture = Matrix {
        title: "Do the forms choose the same weights?".into(),
        description: "Jaccard's index of the weights that two forms would choose, each by itself, at the threshold."
            .into(),
        row_axis: "form".into(),
        column_axis: "form".into(),
        rows: names.clone(),
        columns: names,
        cells: overlap.jaccard.clone(),
        format: percent,
    };
    page.figure(
        picture.draw(),
        "Of the weights that either of two forms would choose by itself, the share that both would. What is not shared belongs \
         to a form and not to the knowledge.",
    );
}

/// In a line, for a terminal.
pub(super) fn sentence(report: &ForgetReport) -> Option<String> {
    let overlap = report.form_overlap.as_ref()?;
    let mean = overlap.mean.map_or_else(|| "no weight".into(), percent);
    Some(format!(
        "{} forms were measured one by one and combined by {}: of the weights that either of two would choose, both would \
         choose {mean} (mean over all pairs).",
        overlap.forms.len(),
        overlap.combine
    ))
}
