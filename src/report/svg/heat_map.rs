//! A heat map of shares: layers down, kinds of tensor across. Strength is the logarithm of the share, since the tensors
//! of one model differ by orders of magnitude; nothing at all has a sign of its own.

use super::columns::Columns;
use super::{Anchor, Svg, name_room};
use crate::report::format;

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatRow {
    /// Its name: a layer.
    pub label: String,
    /// A share for each column; none where there is no such tensor.
    pub cells: Vec<Option<f64>>,
}

/// The picture.
#[derive(Debug, Clone)]
pub struct HeatMap {
    /// What it shows.
    pub title: String,
    /// What there is to see.
    pub description: String,
    /// What a cell says, for the legend.
    pub quantity: String,
    /// The kinds of tensor.
    pub columns: Vec<String>,
    /// The layers.
    pub rows: Vec<HeatRow>,
    /// Tensors outside the layers, each with its share.
    pub singles: Vec<(String, f64)>,
}

const WIDTH: f64 = 1000.0;
const LEGEND: f64 = 64.0;
const FAINTEST: f64 = 0.10;
/// From this opacity on, figures are written in the colour of the page.
const STRONG: f64 = 0.6;

/// The range of the colours, in powers of ten.
struct Strength {
    low: f64,
    high: f64,
}

impl Strength {
    fn of(&self, share: f64) -> f64 {
        let position = ((share.log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        FAINTEST + position * (1.0 - FAINTEST)
    }
}

impl HeatMap {
    /// Draws it.
    pub fn draw(&self) -> Svg {
        let left = name_room(
            self.rows.iter().map(|r| r.label.as_str()).chain(self.singles.iter().map(|s| s.0.as_str())),
            60.0,
            300.0,
        ) + 10.0;
        let columns = Columns::fit(&self.columns, left, WIDTH - left, (14.0, 120.0));
        let top = LEGEND + columns.title_height();
        let row = row_height(self.rows.len());
        let singles_top = top + self.rows.len() as f64 * row + if self.rows.is_empty() { 0.0 } else { 14.0 };
        let height = singles_top + self.singles.len() as f64 * 24.0 + 4.0;
        let mut svg = Svg::new(WIDTH.max(columns.end(self.columns.len())), height, &self.title, &self.description);
        let strength = self.strength();
        self.draw_legend(&mut svg, strength.as_ref());
        columns.draw_titles(&mut svg, &self.columns, top);
        for (r, line) in self.rows.iter().enumerate() {
            let y = top + r as f64 * row;
            if row >= 13.0 || r % 5 == 0 || r + 1 == self.rows.len() && r % 5 > 1 {
                svg.name(left - 8.0, y + row / 2.0 + 4.0, Anchor::End, "tick", &line.label, left - 8.0);
            }
            for (c, share) in line.cells.iter().enumerate().take(self.columns.len()) {
                let area = [columns.start(c), y, columns.width, row];
                draw_cell(&mut svg, strength.as_ref(), *share, area, &format!("{}, {}", line.label, self.columns[c]));
            }
        }
        for (i, (name, share)) in self.singles.iter().enumerate() {
            let y = singles_top + i as f64 * 24.0;
            svg.name(left - 8.0, y + 15.0, Anchor::End, "name", name, left - 8.0);
            draw_cell(&mut svg, strength.as_ref(), Some(*share), [left, y, columns.width.max(72.0), 22.0], name);
        }
        svg
    }

    /// From the smallest to the largest share that is not zero, widened to whole powers of ten.
    fn strength(&self) -> Option<Strength> {
        let layers = self.rows.iter().flat_map(|r| r.cells.iter().flatten());
        let shares = layers.chain(self.singles.iter().map(|s| &s.1)).filter(|s| s.is_finite() && **s > 0.0);
        let (low, high) = shares.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), s| (l.min(*s), h.max(*s)));
        if low > high {
            return None;
        }
        let (low, high) = ((low.log10() + 1e-9).floor(), (high.log10() - 1e-9).ceil());
        Some(Strength { low: low.min(high - 1.0), high })
    }

    fn draw_legend(&self, svg: &mut Svg, strength: Option<&Strength>) {
        svg.text(0.0, 14.0, Anchor::Start, "label", &self.quantity);
        svg.rect(0.5, 24.5, 22.0, 14.0, "cell none", "");
        svg.text(11.0, 54.0, Anchor::Middle, "tick", "0");
        let Some(strength) = strength else { return };
        let (from, width, steps) = (48.0, 300.0, 60);
        for i in 0..steps {
            let share =
                10f64.powf(strength.low + (f64::from(i) + 0.5) / f64::from(steps) * (strength.high - strength.low));
            let step = width / f64::from(steps);
            svg.shaded_rect([from + f64::from(i) * step, 24.0, step, 15.0], "heat", strength.of(share), "");
        }
        let decades = (strength.high - strength.low) as i32;
        let stride = decades / 6 + 1;
        for d in (0..=decades).filter(|d| d % stride == 0) {
            let x = from + f64::from(d) / f64::from(decades) * width;
            svg.line((x, 39.0), (x, 43.0), "axis");
            svg.text(x, 54.0, Anchor::Middle, "tick", &legend_label(strength.low as i32 + d));
        }
    }
}

/// 10^exponent as a percentage: `100%`, `0.1%`, and `1e-5%` below that.
fn legend_label(exponent: i32) -> String {
    match exponent + 2 {
        e if e >= 0 => format!("1{}%", "0".repeat(e as usize)),
        e if e >= -3 => format!("0.{}1%", "0".repeat((-e - 1) as usize)),
        e => format!("1e{e}%"),
    }
}

fn row_height(rows: usize) -> f64 {
    match rows {
        0..=24 => 22.0,
        25..=48 => 15.0,
        _ => 10.0,
    }
}

fn draw_cell(svg: &mut Svg, strength: Option<&Strength>, share: Option<f64>, area: [f64; 4], what: &str) {
    let Some(share) = share else { return };
    let [x, y, width, height] = area;
    let inner = [x + 0.5, y + 0.5, width - 1.0, height - 1.0];
    let text = format::percent(share);
    let hint = format!("{what}: {text}");
    let fits = height >= 20.0 && width >= 44.0;
    match strength.filter(|_| share > 0.0 && share.is_finite()) {
        Some(strength) => {
            let opacity = strength.of(share);
            svg.shaded_rect(inner, "heat", opacity, &hint);
            let class = if opacity >= STRONG { "cell-text strong" } else { "cell-text" };
            if fits {
                svg.text(x + width / 2.0, y + height / 2.0 + 4.0, Anchor::Middle, class, &text);
            }
        }
        None => {
            svg.shaded_rect(inner, "cell none", 1.0, &hint);
            if fits && share.is_finite() {
                svg.text(x + width / 2.0, y + height / 2.0 + 4.0, Anchor::Middle, "cell-text faint", "0");
            } else if fits {
                svg.text(x + width / 2.0, y + height / 2.0 + 4.0, Anchor::Middle, "cell-text bad", &text);
            }
        }
    }
}
