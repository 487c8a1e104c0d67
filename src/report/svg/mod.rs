//! Pictures as inline SVG: a small canvas, scales with readable ticks, and the kinds of picture that a report uses.
//!
//! A picture names no colours, only the classes that `style.css` colours for light, dark and print. Each one carries a
//! title and a description for those who cannot see it, and every text in it is escaped.

mod bars;
mod columns;
mod heat_map;
mod histogram;
mod line_chart;
mod matrix;
mod roofline;
mod scale;

pub use bars::{Bar, BarGroup, GroupedBars};
pub use heat_map::{HeatMap, HeatRow};
pub use histogram::{Histogram, HistogramSeries};
pub use line_chart::{LineChart, LineSeries};
pub use matrix::Matrix;
pub use roofline::{Roofline, RooflinePoint};
pub use scale::{Axis, Scale};

use std::fmt::Write as _;

use super::escape;

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It starts there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        }
    }
}

/// A picture being drawn. Lengths are in CSS pixels, y grows downwards; `class` arguments are names from `style.css`.
#[derive(Debug, Clone)]
pub struct Svg {
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: String,
}

impl Svg {
    /// An empty picture. `title` says what it is, `description` what there is to see in it.
    pub fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        Svg { width, height, title: title.to_owned(), description: description.to_owned(), body: String::new() }
    }

    /// A filled rectangle; `hint` is shown when it is pointed at, if it is not empty.
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, class: &'static str, hint: &str) {
        self.shaded_rect([x, y, width, height], class, 1.0, hint);
    }

    /// A rectangle `[x, y, width, height]` filled with the given opacity: how strength is shown in either theme.
    pub fn shaded_rect(&mut self, area: [f64; 4], class: &'static str, opacity: f64, hint: &str) {
        let [x, y, width, height] = area.map(px);
        let _ = write!(self.body, r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" class="{class}""#);
        if opacity < 1.0 {
            let _ = write!(self.body, r#" fill-opacity="{}""#, px(opacity));
        }
        self.close("rect", hint);
    }

    /// A straight line between two points.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &'static str) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(px);
        let _ = write!(self.body, r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{class}"/>"#);
    }

    /// A line through all points.
    pub fn polyline(&mut self, points: &[(f64, f64)], class: &'static str) {
        self.points("polyline", points, class);
    }

    /// A filled area with these corners.
    pub fn polygon(&mut self, points: &[(f64, f64)], class: &'static str) {
        self.points("polygon", points, class);
    }

    /// A dot; `hint` is shown when it is pointed at.
    pub fn dot(&mut self, centre: (f64, f64), radius: f64, class: &'static str, hint: &str) {
        let [x, y, r] = [centre.0, centre.1, radius].map(px);
        let _ = write!(self.body, r#"<circle cx="{x}" cy="{y}" r="{r}" class="{class}""#);
        self.close("circle", hint);
    }

    /// A text on the baseline `y`.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &'static str, text: &str) {
        let (x, y, text) = (px(x), px(y), escape::markup(text));
        let _ =
            write!(self.body, r#"<text x="{x}" y="{y}" text-anchor="{}" class="{class}">{text}</text>"#, anchor.name());
    }

    /// A name in a limited width: its middle is left out where it does not fit, and the whole shows when pointed at.
    pub fn name(&mut self, x: f64, y: f64, anchor: Anchor, class: &'static str, name: &str, room: f64) {
        self.fitted(&format!(r#"x="{}" y="{}" text-anchor="{}""#, px(x), px(y), anchor.name()), class, name, room);
    }

    /// A name like [`Svg::name`] that rises from its start at 45 degrees.
    pub fn slanted_name(&mut self, x: f64, y: f64, class: &'static str, name: &str, room: f64) {
        self.fitted(&format!(r#"transform="translate({} {}) rotate(-45)""#, px(x), px(y)), class, name, room);
    }

    /// The finished element.
    pub fn finish(self) -> String {
        let (width, height) = (px(self.width), px(self.height));
        let (title, description) = (escape::markup(&self.title), escape::markup(&self.description));
        let body = self.body;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" viewBox="0 0 {width} {height}" width="{width}" height="{height}"><title>{title}</title><desc>{description}</desc>{body}</svg>"#
        )
    }

    fn fitted(&mut self, place: &str, class: &'static str, name: &str, room: f64) {
        let shown = escape::shorten_middle(name, (room / CHAR_WIDTH).max(3.0) as usize);
        let hint = if shown == name { String::new() } else { format!("<title>{}</title>", escape::markup(name)) };
        let _ = write!(self.body, r#"<text {place} class="{class}">{hint}{}</text>"#, escape::markup(&shown));
    }

    fn points(&mut self, element: &str, points: &[(f64, f64)], class: &'static str) {
        let points: Vec<String> = points.iter().map(|&(x, y)| format!("{},{}", px(x), px(y))).collect();
        let _ = write!(self.body, r#"<{element} points="{}" class="{class}"/>"#, points.join(" "));
    }

    fn close(&mut self, element: &str, hint: &str) {
        if hint.is_empty() {
            self.body.push_str("/>");
        } else {
            let _ = write!(self.body, "><title>{}</title></{element}>", escape::markup(hint));
        }
    }
}

/// The average width of a character in the pictures' type, to leave room for names.
const CHAR_WIDTH: f64 = 7.1;

/// The room that the longest of these names needs, within bounds.
fn name_room<'a>(names: impl IntoIterator<Item = &'a str>, least: f64, most: f64) -> f64 {
    let longest = names.into_iter().map(escape::width).max().unwrap_or(0);
    (longest as f64 * CHAR_WIDTH + 4.0).clamp(least, most)
}

/// A length with at most two decimals; a figure that is no number must not break the document.
fn px(value: f64) -> String {
    let rounded = if value.is_finite() { (value.clamp(-1e6, 1e6) * 100.0).round() / 100.0 } else { 0.0 };
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded })
}
