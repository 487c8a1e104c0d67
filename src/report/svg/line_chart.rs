//! Lines through measured points, with a limit: a search for the largest share, a cost over a size.

use super::scale::Frame;
use super::{Anchor, Axis, Scale, Svg, name_room};

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct LineSeries {
    /// Its name.
    pub name: String,
    /// Its points, in any order: they are joined from left to right.
    pub points: Vec<(f64, f64)>,
}

/// The picture.
#[derive(Debug, Clone)]
pub struct LineChart {
    /// What it shows.
    pub title: String,
    /// What there is to see.
    pub description: String,
    /// The quantity that was varied.
    pub x: Axis,
    /// The quantity that was measured.
    pub y: Axis,
    /// At most three lines.
    pub series: Vec<LineSeries>,
    /// A horizontal line that the measured quantity must not pass, and what it is called.
    pub limit: Option<(f64, String)>,
    /// A point to be named, such as the one that was chosen.
    pub mark: Option<(f64, f64, String)>,
    /// The highest figure that the picture has room for: what lies above is shown at the upper edge with an arrow.
    pub ceiling: Option<f64>,
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 330.0;
const LINES: [&str; 3] = ["line1", "line2", "line0"];
const DOTS: [&str; 3] = ["series1", "series2", "series0"];

impl LineChart {
    /// Draws it.
    pub fn draw(&self) -> Svg {
        let frame = Frame { left: 66.0, right: WIDTH - 24.0, top: 62.0, bottom: HEIGHT - 46.0 };
        let mut svg = Svg::new(WIDTH, HEIGHT, &self.title, &self.description);
        let points = || self.series.iter().flat_map(|s| s.points.iter().copied());
        let x = Scale::fit(points().map(|p| p.0), self.x.logarithmic, frame.left + 10.0, frame.right - 10.0);
        let y = self.y_scale(&frame);
        frame.draw_y(&mut svg, &self.y, &y, 5);
        frame.draw_x(&mut svg, &self.x, &x, 8);
        if let Some((at, label)) = self.limit.as_ref().filter(|l| l.0.is_finite()) {
            svg.line((frame.left, y.at(*at)), (frame.right, y.at(*at)), "limit");
            svg.name(frame.left + 8.0, y.at(*at) - 6.0, Anchor::Start, "limit-text", label, frame.right - frame.left);
        }
        for ((series, line), dot) in self.series.iter().zip(LINES).zip(DOTS) {
            self.draw_series(&mut svg, series, (&x, &y), line, dot);
        }
        if let Some((at, value, label)) = &self.mark {
            let (px, py) = (x.at(*at), y.at(*value));
            svg.dot((px, py), 7.5, "ring", label);
            let (anchor, offset) =
                if px > (frame.left + frame.right) / 2.0 { (Anchor::End, -13.0) } else { (Anchor::Start, 13.0) };
            svg.name(px + offset, (py + 4.0).min(frame.bottom - 6.0), anchor, "value halo", label, WIDTH / 2.0);
        }
        self.draw_legend(&mut svg, frame.left);
        svg
    }

    fn y_scale(&self, frame: &Frame) -> Scale {
        let ceiling = self.ceiling.unwrap_or(f64::INFINITY);
        let measured = self.series.iter().flat_map(|s| s.points.iter().map(|p| p.1));
        let shown = measured.chain(self.limit.iter().map(|l| l.0)).filter(|v| *v <= ceiling);
        let ground = if self.y.logarithmic { None } else { Some(0.0) };
        let above = self.series.iter().any(|s| s.points.iter().any(|p| p.1 > ceiling)).then_some(ceiling);
        Scale::fit(shown.chain(ground).chain(above), self.y.logarithmic, frame.bottom, frame.top)
    }

    fn draw_series(
        &self,
        svg: &mut Svg,
        series: &LineSeries,
        (x, y): (&Scale, &Scale),
        line: &'static str,
        dot: &'static str,
    ) {
        let mut points: Vec<(f64, f64)> = series.points.iter().copied().filter(|p| p.0.is_finite()).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let known: Vec<(f64, f64)> = points.iter().copied().filter(|p| !p.1.is_nan()).collect();
        // Between two points off the scale nothing was seen: a line along the edge would claim a plateau.
        let off = |i: usize| known.get(i).is_none_or(|p| y.is_above(p.1));
        let seen = |i: &usize| !(off(*i) && off(i + 1) && (*i == 0 || off(i - 1)));
        let drawn: Vec<(f64, f64)> =
            (0..known.len()).filter(seen).map(|i| (x.at(known[i].0), y.at(known[i].1))).collect();
        svg.polyline(&drawn, line);
        for &(px, py) in &points {
            let hint = format!("{}: {}, {}", series.name, (self.x.format)(px), (self.y.format)(py));
            let (cx, cy) = (x.at(px), y.at(py));
            if py.is_nan() || y.is_above(py) {
                let top = y.at(f64::INFINITY);
                svg.polygon(&[(cx - 5.0, top + 3.0), (cx + 5.0, top + 3.0), (cx, top - 6.0)], "limit-fill");
                svg.text(cx, top - 10.0, Anchor::Middle, "tick", &(self.y.format)(py));
            } else {
                svg.dot((cx, cy), 3.5, dot, &hint);
            }
        }
    }

    fn draw_legend(&self, svg: &mut Svg, left: f64) {
        if self.series.len() < 2 {
            return;
        }
        let mut x = left;
        for (series, line) in self.series.iter().zip(LINES) {
            svg.line((x, 12.0), (x + 18.0, 12.0), line);
            svg.text(x + 24.0, 16.0, Anchor::Start, "label", &series.name);
            x += 24.0 + name_room([series.name.as_str()], 40.0, 400.0) + 20.0;
        }
    }
}
