//! From a figure to a place in the picture, and the ticks that a reader measures by.

use super::{Anchor, Svg};

/// What an axis shows: its label with the unit, how its figures are written, and whether it counts in powers of ten.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Name and unit.
    pub label: String,
    /// How a measured figure is written.
    pub format: fn(f64) -> String,
    /// How a tick is written.
    pub tick: fn(f64) -> String,
    /// Whether equal distances are equal factors.
    pub logarithmic: bool,
}

impl Axis {
    /// An axis with equal distances.
    pub fn linear(label: &str, format: fn(f64) -> String) -> Self {
        Axis { label: label.to_owned(), format, tick: format, logarithmic: false }
    }

    /// An axis with equal factors.
    pub fn logarithmic(label: &str, format: fn(f64) -> String) -> Self {
        Axis { label: label.to_owned(), format, tick: format, logarithmic: true }
    }

    /// The axis with its ticks, which are round, written in a shorter way than measured figures.
    pub fn with_ticks(self, tick: fn(f64) -> String) -> Self {
        Axis { tick, ..self }
    }
}

/// A range of figures laid over a range of pixels.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// Lays the finite ones of `values` over the pixels `from..to`, and nothing else: ends are not rounded. On a
    /// logarithmic scale only positive values count. Without any value the range is 0 to 1 (or 1 to 10).
    pub fn fit(values: impl IntoIterator<Item = f64>, logarithmic: bool, from: f64, to: f64) -> Self {
        let usable = values.into_iter().filter(|v| v.is_finite() && (!logarithmic || *v > 0.0));
        let (mut low, mut high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = if logarithmic { (1.0, 10.0) } else { (0.0, 1.0) };
        }
        if logarithmic {
            (low, high) = (low.log10(), high.log10());
        }
        // An empty range, also one too narrow for f64 to divide.
        if high - low <= 1e-9 * low.abs().max(high.abs()) {
            let around = if logarithmic {
                0.5
            } else if low == 0.0 {
                1.0
            } else {
                0.1 * low.abs()
            };
            low -= if low == 0.0 && !logarithmic { 0.0 } else { around };
            high += around;
        }
        Scale { low, high, from, to, logarithmic }
    }

    /// The pixel of a figure; outside the range the nearest end.
    pub fn at(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + (if share.is_nan() { 0.0 } else { share }) * (self.to - self.from)
    }

    /// Whether a figure lies above the range, as an infinite one does.
    pub fn is_above(&self, value: f64) -> bool {
        value > if self.logarithmic { 10f64.powf(self.high) } else { self.high } * (1.0 + 1e-9)
    }

    /// About `wanted` round figures inside the range.
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        if !self.logarithmic {
            return linear_ticks(self.low, self.high, wanted);
        }
        let (first, last) = ((self.low - 1e-9).ceil() as i32, (self.high + 1e-9).floor() as i32);
        if last - first < 1 {
            // Less than two powers of ten: round figures between them measure better.
            return linear_ticks(10f64.powf(self.low), 10f64.powf(self.high), wanted);
        }
        let stride = ((last - first) as usize / wanted.max(1) + 1) as i32;
        (first..=last).filter(|e| e.rem_euclid(stride) == 0).map(|e| 10f64.powi(e)).collect()
    }
}

/// Multiples of 1, 2 or 5 times a power of ten in `low..=high`.
fn linear_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let rough = (high - low) / wanted.max(1) as f64;
    if !rough.is_finite() || rough <= 0.0 {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough * 0.999).unwrap_or(rough);
    let first = (low / step - 1e-9).ceil();
    let ticks = (0..200).map(|i| (first + f64::from(i)) * step).take_while(|t| *t <= high + step * 1e-9);
    // Multiples of 0.1 carry binary dust that would show in the label.
    let decimals = (1.0 - step.log10().floor()).clamp(0.0, 15.0) as i32;
    let grid = 10f64.powi(decimals);
    ticks.map(|t| if decimals > 12 { t } else { (t * grid).round() / grid + 0.0 }).collect()
}

/// The frame of a chart: where its data go, in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Frame {
    /// The horizontal axis under the frame: grid lines, ticks, label.
    pub(super) fn draw_x(&self, svg: &mut Svg, axis: &Axis, scale: &Scale, ticks: usize) {
        for tick in scale.ticks(ticks) {
            let x = scale.at(tick);
            svg.line((x, self.top), (x, self.bottom), "grid");
            svg.text(x, self.bottom + 16.0, Anchor::Middle, "tick", &(axis.tick)(tick));
        }
        svg.line((self.left, self.bottom), (self.right, self.bottom), "axis");
        svg.text((self.left + self.right) / 2.0, self.bottom + 36.0, Anchor::Middle, "label", &axis.label);
    }

    /// The vertical axis left of the frame: grid lines, ticks, and the label above it, where it is read first.
    pub(super) fn draw_y(&self, svg: &mut Svg, axis: &Axis, scale: &Scale, ticks: usize) {
        for tick in scale.ticks(ticks) {
            let y = scale.at(tick);
            svg.line((self.left, y), (self.right, y), "grid");
            svg.text(self.left - 6.0, y + 4.0, Anchor::End, "tick", &(axis.tick)(tick));
        }
        svg.text(self.left - 48.0, self.top - 30.0, Anchor::Start, "label", &axis.label);
    }
}
