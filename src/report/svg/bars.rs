//! Grouped horizontal bars: the same quantity before and after, one group for each form of question.

use super::scale::Frame;
use super::{Anchor, Axis, Scale, Svg, name_room};

/// One bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Its length.
    pub value: f64,
    /// Lower and upper end of the error bar.
    pub interval: Option<[f64; 2]>,
}

/// The bars that are compared with each other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BarGroup {
    /// A heading over this group and those after it.
    pub heading: Option<String>,
    /// What the bars belong to.
    pub label: String,
    /// A remark under the label, such as the number of probes.
    pub note: String,
    /// One bar for each series.
    pub bars: Vec<Bar>,
}

/// The picture.
#[derive(Debug, Clone)]
pub struct GroupedBars {
    /// What it shows.
    pub title: String,
    /// What there is to see.
    pub description: String,
    /// The names of the bars of a group, such as before and after. At most three.
    pub series: Vec<String>,
    /// The quantity.
    pub axis: Axis,
    /// The figure at the axis' end; without it the largest value.
    pub limit: Option<f64>,
    /// The groups, from top to bottom.
    pub groups: Vec<BarGroup>,
}

const WIDTH: f64 = 1000.0;
const BAR: f64 = 13.0;
const GROUP_GAP: f64 = 13.0;
const HEADING: f64 = 30.0;
const VALUE_ROOM: f64 = 62.0;
const CLASSES: [&str; 3] = ["series0", "series1", "series2"];

impl GroupedBars {
    /// Draws it.
    pub fn draw(&self) -> Svg {
        let names = self.groups.iter().flat_map(|g| [g.label.as_str(), g.note.as_str()]);
        let left = name_room(names, 110.0, 330.0) + 14.0;
        let top = 34.0;
        let heights: f64 = self.groups.iter().map(|g| self.group_height(g)).sum();
        let frame = Frame { left, right: WIDTH - VALUE_ROOM, top, bottom: top + heights + 6.0 };
        let mut svg = Svg::new(WIDTH, frame.bottom + 46.0, &self.title, &self.description);
        let scale = Scale::fit([0.0].into_iter().chain(self.values()), false, frame.left, frame.right);
        self.draw_legend(&mut svg, left);
        frame.draw_x(&mut svg, &self.axis, &scale, 5);
        svg.line((left, frame.top), (left, frame.bottom), "axis");
        let mut y = top;
        for group in &self.groups {
            self.draw_group(&mut svg, group, &scale, left, y);
            y += self.group_height(group);
        }
        svg
    }

    fn values(&self) -> Vec<f64> {
        match self.limit {
            Some(limit) => vec![limit],
            None => self
                .groups
                .iter()
                .flat_map(|g| &g.bars)
                .flat_map(|b| [b.value, b.interval.map_or(b.value, |i| i[1])])
                .collect(),
        }
    }

    fn group_height(&self, group: &BarGroup) -> f64 {
        let bars = group.bars.len().clamp(1, CLASSES.len()) as f64 * BAR;
        bars + GROUP_GAP + if group.heading.is_some() { HEADING } else { 0.0 }
    }

    fn draw_legend(&self, svg: &mut Svg, left: f64) {
        let mut x = left;
        for (name, class) in self.series.iter().zip(CLASSES) {
            svg.rect(x, 8.0, 12.0, 12.0, class, "");
            svg.text(x + 18.0, 18.0, Anchor::Start, "label", name);
            x += 18.0 + name_room([name.as_str()], 40.0, 300.0) + 18.0;
        }
    }

    fn draw_group(&self, svg: &mut Svg, group: &BarGroup, scale: &Scale, left: f64, mut y: f64) {
        if let Some(heading) = &group.heading {
            svg.name(0.0, y + HEADING - 9.0, Anchor::Start, "heading", heading, WIDTH * 0.8);
            y += HEADING;
        }
        y += GROUP_GAP / 2.0;
        let lines = if group.note.is_empty() { 4.0 } else { -2.0 };
        let middle = y + group.bars.len().min(CLASSES.len()) as f64 * BAR / 2.0;
        svg.name(left - 10.0, middle + lines, Anchor::End, "name", &group.label, left - 12.0);
        svg.name(left - 10.0, middle + 11.0, Anchor::End, "tick", &group.note, left - 12.0);
        for (i, (bar, class)) in group.bars.iter().zip(CLASSES).enumerate() {
            let series = self.series.get(i).map_or("", String::as_str);
            self.draw_bar(svg, bar, class, scale, y + i as f64 * BAR, &format!("{}, {series}", group.label));
        }
    }

    fn draw_bar(&self, svg: &mut Svg, bar: &Bar, class: &'static str, scale: &Scale, y: f64, what: &str) {
        let start = scale.at(0.0);
        let value = (self.axis.format)(bar.value);
        if !bar.value.is_finite() {
            return svg.text(
                start + 6.0,
                y + BAR - 3.0,
                Anchor::Start,
                "value bad",
                &format!("not a finite number ({value})"),
            );
        }
        let mut end = scale.at(bar.value);
        // A bar of length zero is still a measured figure: a sliver says so.
        svg.rect(start, y + 0.5, (end - start).max(1.0), BAR - 1.5, class, &format!("{what}: {value}"));
        if let Some([low, high]) = bar.interval.filter(|i| i.iter().all(|v| v.is_finite())) {
            let (x0, x1, middle) = (scale.at(low), scale.at(high), y + BAR / 2.0 - 0.25);
            svg.line((x0, middle), (x1, middle), "whisker");
            svg.line((x0, middle - 3.0), (x0, middle + 3.0), "whisker");
            svg.line((x1, middle - 3.0), (x1, middle + 3.0), "whisker");
            end = end.max(x1);
        }
        svg.text(end + 6.0, y + BAR - 2.5, Anchor::Start, "value", &value);
    }
}
