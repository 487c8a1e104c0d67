//! A roofline (Williams, Waterman and Patterson 2009): operations per second over operations per byte, both in powers of ten,
//! under the slope of the memory's bandwidth and the ceiling of the arithmetic.

use super::scale::Frame;
use super::{Anchor, Axis, Scale, Svg, name_room};

/// A kernel's problem in the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct RooflinePoint {
    /// What is shown when it is pointed at.
    pub name: String,
    /// Which of the picture's groups it belongs to.
    pub group: usize,
    /// Operations per byte.
    pub intensity: f64,
    /// Operations per second.
    pub rate: f64,
}

/// The picture.
#[derive(Debug, Clone)]
pub struct Roofline {
    /// What it shows.
    pub title: String,
    /// What there is to see.
    pub description: String,
    /// Bytes per second.
    pub bandwidth: f64,
    /// Operations per second, and what this ceiling is called.
    pub ceilings: Vec<(f64, String)>,
    /// At most three groups of points, by name.
    pub groups: Vec<String>,
    /// The points.
    pub points: Vec<RooflinePoint>,
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 460.0;
const DOTS: [&str; 3] = ["series1", "series2", "series0"];

impl Roofline {
    /// Draws it. `rate` writes operations per second.
    pub fn draw(&self, rate: fn(f64) -> String) -> Svg {
        let frame = Frame { left: 76.0, right: WIDTH - 24.0, top: 62.0, bottom: HEIGHT - 46.0 };
        let mut svg = Svg::new(WIDTH, HEIGHT, &self.title, &self.description);
        let ceiling = self.ceilings.iter().map(|c| c.0).fold(0.0, f64::max);
        let ridge = ceiling / self.bandwidth;
        let shown = |point: &&RooflinePoint| point.intensity > 0.0 && point.rate > 0.0;
        let points: Vec<&RooflinePoint> = self.points.iter().filter(shown).collect();
        let intensities = points.iter().map(|p| p.intensity).chain([ridge / 4.0, ridge * 4.0]);
        let x = Scale::fit(intensities, true, frame.left + 10.0, frame.right - 10.0);
        let rates = points.iter().map(|p| p.rate).chain([ceiling * 1.3, ceiling / 30.0]);
        let y = Scale::fit(rates, true, frame.bottom, frame.top);
        let number: fn(f64) -> String = crate::report::format::number;
        frame.draw_y(&mut svg, &Axis::logarithmic("operations per second", rate), &y, 6);
        frame.draw_x(&mut svg, &Axis::logarithmic("operations per byte", number), &x, 8);
        self.draw_roofs(&mut svg, &frame, (&x, &y), &points);
        for point in points {
            let class = DOTS[point.group.min(DOTS.len() - 1)];
            let hint = format!("{}: {}, {} operations a byte", point.name, rate(point.rate), number(point.intensity));
            svg.dot((x.at(point.intensity), y.at(point.rate)), 4.0, class, &hint);
        }
        let mut left = frame.left;
        for (group, dot) in self.groups.iter().zip(DOTS) {
            svg.dot((left + 6.0, 12.0), 4.0, dot, "");
            svg.text(left + 16.0, 16.0, Anchor::Start, "label", group);
            left += 16.0 + name_room([group.as_str()], 40.0, 400.0) + 20.0;
        }
        svg
    }

    /// The slope up to where it meets each ceiling, and the ceiling from there on.
    fn draw_roofs(&self, svg: &mut Svg, frame: &Frame, (x, y): (&Scale, &Scale), points: &[&RooflinePoint]) {
        let far = points.iter().map(|p| p.intensity).fold(0.0, f64::max);
        let near = points.iter().map(|p| p.intensity).fold(f64::INFINITY, f64::min);
        for (ceiling, name) in &self.ceilings {
            let ridge = ceiling / self.bandwidth;
            let start = near.min(ridge / 4.0);
            let roof = [(start, start * self.bandwidth), (ridge, *ceiling), (far.max(4.0 * ridge), *ceiling)];
            svg.polyline(&roof.map(|(i, r)| (x.at(i), y.at(r))), "line0");
            svg.name(frame.right - 8.0, y.at(*ceiling) - 6.0, Anchor::End, "value halo", name, 400.0);
        }
    }
}
