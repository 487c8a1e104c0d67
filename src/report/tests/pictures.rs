//! Pictures stand whatever is put into them, and put things where they belong.

use super::markup;
use crate::report::format::{number, percent};
use crate::report::svg::*;

fn texts(svg: &str) -> Vec<String> {
    let parts = svg.split("<text").skip(1).filter_map(|t| t.split_once('>')?.1.split_once("</text>"));
    parts.map(|(text, _)| text.to_owned()).collect()
}

#[test]
fn ticks_are_round_and_inside() {
    let scale = Scale::fit([0.0, 1.0], false, 0.0, 100.0);
    assert_eq!(scale.ticks(5), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    assert_eq!(Scale::fit([-3.1, 4.2], false, 0.0, 1.0).ticks(8), [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(Scale::fit([1.0, 1e6], true, 0.0, 1.0).ticks(10), [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]);
    for (low, high) in [(0.0, 1e-12), (1e12, 1e12 + 5.0), (-7e-3, 3e5), (0.3, 0.3), (1e300, 1.1e300)] {
        let scale = Scale::fit([low, high], false, 0.0, 1.0);
        let ticks = scale.ticks(6);
        assert!((1..=20).contains(&ticks.len()), "{low}..{high}: {ticks:?}");
        assert!(ticks.windows(2).all(|w| w[0] < w[1]), "{ticks:?}");
    }
}

#[test]
fn a_scale_maps_its_ends_and_keeps_everything_inside() {
    let scale = Scale::fit([2.0, 4.0], false, 100.0, 300.0);
    assert_eq!((scale.at(2.0), scale.at(3.0), scale.at(4.0)), (100.0, 200.0, 300.0));
    assert_eq!((scale.at(-9.0), scale.at(f64::INFINITY), scale.at(f64::NAN)), (100.0, 300.0, 100.0));
    let powers = Scale::fit([1.0, 100.0], true, 0.0, 10.0);
    assert!((powers.at(10.0) - 5.0).abs() < 1e-12);
    assert!(powers.is_above(101.0) && powers.is_above(f64::INFINITY) && !powers.is_above(100.0));
}

#[test]
fn bars_are_as_long_as_their_figures() {
    let group =
        |value| BarGroup { label: "form".into(), bars: vec![Bar { value, interval: None }], ..BarGroup::default() };
    let picture = GroupedBars {
        title: "t".into(),
        description: "d".into(),
        series: vec!["before".into()],
        axis: Axis::linear("share", percent),
        limit: Some(1.0),
        groups: vec![group(0.2), group(0.8), group(f64::NAN)],
    };
    let svg = picture.draw().finish();
    markup::check(&svg).unwrap();
    let widths: Vec<f64> = svg
        .split("<rect")
        .filter(|r| r.contains("<title>form"))
        .filter_map(|r| r.split_once("width=\"")?.1.split_once('"')?.0.parse().ok())
        .collect();
    assert_eq!(widths.len(), 2);
    assert!((widths[1] / widths[0] - 4.0).abs() < 1e-3, "{widths:?}");
    let texts = texts(&svg);
    assert!(texts.contains(&"20.0%".into()) && texts.contains(&"not a finite number (NaN)".into()), "{texts:?}");
}

#[test]
fn a_heat_map_shades_by_the_logarithm_and_tells_nothing_from_absent() {
    let map = |rows| HeatMap {
        title: "t".into(),
        description: "d".into(),
        quantity: "share".into(),
        columns: vec!["a".into(), "b".into(), "c".into()],
        rows,
        singles: vec![("norm".into(), 0.0)],
    };
    let row = |cells| HeatRow { label: "layer 0".into(), cells };
    let svg = map(vec![row(vec![Some(1e-5), Some(1e-3), Some(1e-1)]), row(vec![Some(0.0), None, Some(f64::NAN)])])
        .draw()
        .finish();
    markup::check(&svg).unwrap();
    let opacity = |hint: &str| -> f64 {
        let rect = svg.split("<rect").find(|r| r.contains(hint)).unwrap();
        rect.split_once("fill-opacity=\"").map_or(1.0, |(_, o)| o.split_once('"').unwrap().0.parse().unwrap())
    };
    // Where every weight of every tensor changed, as where one power of ten is all there is.
    for (share, labels) in [(1.0, ["10%", "100%"]), (0.1, ["1%", "10%"]), (3e-5, ["0.001%", "0.01%"])] {
        let svg = map(vec![row(vec![Some(share); 3])]).draw().finish();
        markup::check(&svg).unwrap();
        let texts = texts(&svg);
        assert!(labels.iter().all(|label| texts.contains(&(*label).into())), "{share}: {texts:?}");
    }
    let (low, middle, high) = (opacity("a: 0.0010%"), opacity("b: 0.10%"), opacity("c: 10.0%"));
    assert!(((low + high) / 2.0 - middle).abs() < 0.011, "{low} {middle} {high}");
    assert_eq!(high, 1.0);
    assert!(svg.contains("layer 0, a: 0%") && svg.contains("layer 0, c: NaN"));
    assert_eq!(svg.matches("layer 0, b").count(), 1);
    markup::check(&map(vec![]).draw().finish()).unwrap();
}

#[test]
fn a_histogram_joins_bins_without_losing_the_ends() {
    let edges: Vec<f64> = (0..4096).map(|b| if b == 0 { f64::NEG_INFINITY } else { f64::from(b) / 256.0 }).collect();
    let mut counts = vec![0; 4096];
    (counts[0], counts[2000], counts[4095]) = (5, 1_000_000, 1);
    let picture = Histogram {
        title: "t".into(),
        description: "d".into(),
        axis: Axis::linear("ratio", number),
        edges,
        series: vec![
            HistogramSeries { name: "all".into(), counts: counts.clone() },
            HistogramSeries { name: "some".into(), counts },
        ],
        threshold: Some((7.5, "threshold".into())),
    };
    let svg = picture.draw().finish();
    markup::check(&svg).unwrap();
    assert!(svg.len() < 60_000, "{}", svg.len());
    let texts = texts(&svg);
    for wanted in ["1M", "threshold", "all", "some", "0", "16"] {
        assert!(texts.contains(&wanted.to_owned()), "{wanted}: {texts:?}");
    }
    let nothing = Histogram { edges: vec![], series: vec![], threshold: Some((f64::NAN, "x".into())), ..picture };
    markup::check(&nothing.draw().finish()).unwrap();
}

#[test]
fn a_line_chart_joins_points_from_left_to_right_and_shows_what_is_off_the_scale() {
    let chart = LineChart {
        title: "t".into(),
        description: "d".into(),
        x: Axis::logarithmic("share", percent),
        y: Axis::linear("rise", percent),
        series: vec![LineSeries {
            name: "tried".into(),
            points: vec![(0.1, f64::INFINITY), (0.001, 0.01), (0.01, 0.05), (0.02, f64::NAN)],
        }],
        limit: Some((0.02, "limit".into())),
        mark: Some((0.001, 0.01, "taken".into())),
        ceiling: Some(0.1),
    };
    let svg = chart.draw().finish();
    markup::check(&svg).unwrap();
    let line = svg.split_once("<polyline points=\"").unwrap().1.split_once('"').unwrap().0;
    let xs: Vec<f64> = line.split(' ').map(|p| p.split_once(',').unwrap().0.parse().unwrap()).collect();
    assert_eq!(xs.len(), 3);
    let far =
        LineSeries { name: "tried".into(), points: vec![(0.1, 9.0), (0.2, f64::INFINITY), (0.3, 8.0), (0.01, 0.01)] };
    let drawn = LineChart { series: vec![far], mark: None, ..chart.clone() }.draw().finish();
    let line = drawn.split_once("<polyline points=\"").unwrap().1.split_once('"').unwrap().0;
    assert_eq!(line.split(' ').count(), 2, "the line stops where it leaves the picture");
    assert!(xs.windows(2).all(|w| w[0] < w[1]), "{xs:?}");
    let texts = texts(&svg);
    assert!(
        texts.contains(&"∞".into()) && texts.contains(&"NaN".into()) && texts.contains(&"taken".into()),
        "{texts:?}"
    );
    assert_eq!(svg.matches("limit-fill").count(), 2);
}

#[test]
fn a_matrix_shows_each_figure_in_its_place() {
    let matrix = Matrix {
        title: "leaks".into(),
        description: "d".into(),
        row_axis: "removed".into(),
        column_axis: "asked".into(),
        rows: vec!["A & B".into(), "C".into()],
        columns: vec!["question".into(), "cloze".into()],
        cells: vec![vec![Some(0.1), Some(0.9)], vec![None, Some(f64::NAN)]],
        format: percent,
    };
    let svg = matrix.draw().finish();
    markup::check(&svg).unwrap();
    for wanted in ["A &amp; B, question: 10.0%", "A &amp; B, cloze: 90.0%", "C, cloze: NaN"] {
        assert!(svg.contains(wanted), "{wanted}");
    }
    assert!(!svg.contains("C, question"));
}
