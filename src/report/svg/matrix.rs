//! A matrix of figures with named rows and columns, shaded by size: what removing one thing does to another.

use super::columns::Columns;
use super::{Anchor, Svg, name_room};

/// The picture.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// What it shows.
    pub title: String,
    /// What there is to see.
    pub description: String,
    /// What the rows are.
    pub row_axis: String,
    /// What the columns are.
    pub column_axis: String,
    /// The rows' names.
    pub rows: Vec<String>,
    /// The columns' names.
    pub columns: Vec<String>,
    /// One line of figures for each row; none where nothing was measured.
    pub cells: Vec<Vec<Option<f64>>>,
    /// How a figure is written.
    pub format: fn(f64) -> String,
}

const WIDTH: f64 = 1000.0;
const ROW: f64 = 28.0;
const STRONG: f64 = 0.6;

impl Matrix {
    /// Draws it. The strongest shade is the largest size in the matrix, at least 1.
    pub fn draw(&self) -> Svg {
        let axis_room = format!("{} ↓  {} →", self.row_axis, self.column_axis);
        let left = name_room(self.rows.iter().map(String::as_str).chain([axis_room.as_str()]), 60.0, 300.0) + 10.0;
        let columns = Columns::fit(&self.columns, left, WIDTH - left, (20.0, 120.0));
        let top = columns.title_height() + 6.0;
        let height = top + self.rows.len() as f64 * ROW + 4.0;
        let mut svg = Svg::new(WIDTH.max(columns.end(self.columns.len())), height, &self.title, &self.description);
        svg.name(left - 10.0, top - 9.0, Anchor::End, "label", &axis_room, left - 10.0);
        columns.draw_titles(&mut svg, &self.columns, top);
        let finite = self.cells.iter().flatten().flatten().copied().filter(|v| v.is_finite());
        let largest = finite.fold(1.0, |most: f64, v| most.max(v.abs()));
        for (r, row) in self.rows.iter().enumerate() {
            let y = top + r as f64 * ROW;
            svg.name(left - 10.0, y + ROW / 2.0 + 4.0, Anchor::End, "name", row, left - 10.0);
            for (c, column) in self.columns.iter().enumerate() {
                let Some(value) = self.cells.get(r).and_then(|line| line.get(c)).copied().flatten() else { continue };
                let text = (self.format)(value);
                let opacity = if value.is_finite() { (value.abs() / largest).max(0.03) } else { 0.03 };
                let area = [columns.start(c) + 0.5, y + 0.5, columns.width - 1.0, ROW - 1.0];
                svg.shaded_rect(area, "heat", opacity, &format!("{row}, {column}: {text}"));
                if columns.width >= 40.0 {
                    let class = if opacity >= STRONG { "cell-text strong" } else { "cell-text" };
                    svg.text(columns.start(c) + columns.width / 2.0, y + ROW / 2.0 + 4.0, Anchor::Middle, class, &text);
                }
            }
        }
        svg
    }
}
