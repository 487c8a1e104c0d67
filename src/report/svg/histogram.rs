//! A histogram of counts over bins, on a logarithmic count axis: the few weights beyond a threshold are what matters,
//! and beside millions of others they would be a flat line.

use super::scale::Frame;
use super::{Anchor, Axis, Scale, Svg, name_room};
use crate::report::format;

/// One distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSeries {
    /// Its name.
    pub name: String,
    /// How many lie in each bin.
    pub counts: Vec<u64>,
}

/// The picture.
#[derive(Debug, Clone)]
pub struct Histogram {
    /// What it shows.
    pub title: String,
    /// What there is to see.
    pub description: String,
    /// The binned quantity.
    pub axis: Axis,
    /// The lower edge of each bin, ascending; the first may be -∞. The last bin is as wide as the others.
    pub edges: Vec<f64>,
    /// One or two distributions over these bins.
    pub series: Vec<HistogramSeries>,
    /// A vertical line and what it is called.
    pub threshold: Option<(f64, String)>,
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 330.0;
/// More bins than this are drawn together.
const MOST_BINS: usize = 160;
const FILLS: [&str; 2] = ["area0", "area1"];
const LINES: [&str; 2] = ["line0", "line1"];

impl Histogram {
    /// Draws it.
    pub fn draw(&self) -> Svg {
        let frame = Frame { left: 56.0, right: WIDTH - 14.0, top: 62.0, bottom: HEIGHT - 46.0 };
        let mut svg = Svg::new(WIDTH, HEIGHT, &self.title, &self.description);
        let (edges, counts) = self.drawn_bins();
        let threshold = self.threshold.as_ref().filter(|t| t.0.is_finite());
        let x = Scale::fit(edges.iter().copied().chain(threshold.map(|t| t.0)), false, frame.left, frame.right);
        // Half a weight is below one weight: a bin with a single one still stands out from the ground.
        let counted = counts.iter().flatten().map(|&c| c as f64).filter(|c| *c > 0.0);
        let y = Scale::fit(counted.chain([0.5]), true, frame.bottom, frame.top);
        frame.draw_y(&mut svg, &Axis::logarithmic("weights in a bin", format::short_count), &y, 5);
        frame.draw_x(&mut svg, &self.axis, &x, 10);
        for ((series, fill), line) in counts.iter().zip(FILLS).zip(LINES) {
            let outline = outline(&edges, series, &x, &y, frame.bottom);
            if outline.len() > 2 {
                svg.polygon(&outline, fill);
                svg.polyline(&outline, line);
            }
        }
        if let Some((at, label)) = threshold {
            draw_threshold(&mut svg, &frame, x.at(*at), label);
        }
        self.draw_legend(&mut svg, frame.left);
        svg
    }

    /// Finite edges (one more than bins) and the counts of each series: bins joined until they are few enough to see,
    /// and empty ends left out.
    fn drawn_bins(&self) -> (Vec<f64>, Vec<Vec<u64>>) {
        let bins = self.series.iter().map(|s| s.counts.len()).max().unwrap_or(0).min(self.edges.len());
        let count = |series: &HistogramSeries, bin: usize| series.counts.get(bin).copied().unwrap_or(0);
        let filled = |bin: &usize| self.series.iter().any(|s| count(s, *bin) > 0);
        let (Some(first), Some(last)) = ((0..bins).find(filled), (0..bins).rev().find(filled)) else {
            return (Vec::new(), Vec::new());
        };
        let edges = self.finite_edges(bins);
        let together = (last - first) / MOST_BINS + 1;
        let starts: Vec<usize> = (first..=last).step_by(together).collect();
        let end = |start: usize| (start + together).min(last + 1);
        let sums = |s: &HistogramSeries| {
            starts.iter().map(|&b| (b..end(b)).map(|i| count(s, i)).fold(0, u64::saturating_add)).collect()
        };
        let drawn = starts.iter().map(|&b| edges[b]).chain([edges[last + 1]]).collect();
        (drawn, self.series.iter().take(FILLS.len()).map(sums).collect())
    }

    /// The bins' edges with a finite stand-in for an open end.
    fn finite_edges(&self, bins: usize) -> Vec<f64> {
        let mut widths: Vec<f64> =
            self.edges.windows(2).map(|w| w[1] - w[0]).filter(|w| w.is_finite() && *w > 0.0).collect();
        widths.sort_by(f64::total_cmp);
        let width = widths.get(widths.len() / 2).copied().unwrap_or(1.0);
        let known = self.edges.iter().position(|e| e.is_finite());
        let origin = known.map_or(0.0, |k| self.edges[k] - k as f64 * width);
        let edge = |i: usize| self.edges.get(i).copied().filter(|e| e.is_finite());
        let mut edges: Vec<f64> = (0..bins).map(|i| edge(i).unwrap_or(origin + i as f64 * width)).collect();
        let past = edge(bins).or(edges.last().map(|e| e + width)).unwrap_or(origin);
        edges.push(past);
        edges
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

/// The steps of a distribution, from ground to ground.
fn outline(edges: &[f64], counts: &[u64], x: &Scale, y: &Scale, ground: f64) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else { return Vec::new() };
    let mut points = vec![(x.at(*first), ground)];
    for (bin, &count) in edges.windows(2).zip(counts) {
        let height = if count == 0 { ground } else { y.at(count as f64) };
        points.extend([(x.at(bin[0]), height), (x.at(bin[1]), height)]);
    }
    points.push((x.at(*last), ground));
    points
}

fn draw_threshold(svg: &mut Svg, frame: &Frame, x: f64, label: &str) {
    svg.line((x, frame.top - 20.0), (x, frame.bottom), "limit");
    let middle = (frame.left + frame.right) / 2.0;
    // Towards the side with more room.
    let (anchor, offset) = if x > middle { (Anchor::End, -7.0) } else { (Anchor::Start, 7.0) };
    svg.name(x + offset, frame.top - 11.0, anchor, "limit-text", label, (frame.right - frame.left) * 0.5);
}
