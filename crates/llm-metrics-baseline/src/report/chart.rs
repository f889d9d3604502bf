//! Line charts as SVG, without scripts or external files.

use std::fmt::Write as _;

use super::escape;
use crate::figure;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
/// Space for the names of two marks.
const TOP: f64 = 32.0;
const BOTTOM: f64 = 40.0;
/// The ratio of the highest to the lowest value above which the axis is logarithmic.
const WIDE: f64 = 30.0;
/// The maximum number of points that are drawn as dots; more are drawn as a line only.
const MOST_DOTS: usize = 60;

pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) about: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) series: Vec<Series>,
    /// Vertical lines: their values on the x axis, and their names.
    pub(super) marks: Vec<(f64, &'a str)>,
    /// Whether the y axis always begins at 0, and is never logarithmic.
    pub(super) from_zero: bool,
}

pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Confidence intervals, where they are known: x, lower end, upper end.
    pub(super) intervals: Vec<(f64, f64, f64)>,
}

impl Series {
    pub(super) fn new(name: &str, points: impl IntoIterator<Item = Option<(f64, f64)>>) -> Self {
        Self { name: name.to_owned(), points: points.into_iter().flatten().collect(), intervals: Vec::new() }
    }

    pub(super) fn with_intervals(mut self, intervals: impl IntoIterator<Item = Option<(f64, f64, f64)>>) -> Self {
        self.intervals = intervals.into_iter().flatten().collect();
        self
    }
}

/// Converts values to positions in the drawing.
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.max(f64::MIN_POSITIVE).ln() } else { value };
        let share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low));
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn linear(high: f64, from: f64, to: f64) -> Self {
        let high = if high > 0.0 { high } else { 1.0 };
        Self { low: 0.0, high: high * 1.05, logarithmic: false, from, to }
    }

    fn logarithmic(low: f64, high: f64, from: f64, to: f64) -> Self {
        Self { low: low / 1.3, high: high * 1.3, logarithmic: true, from, to }
    }

    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let steps: &[f64] = if decades.clone().count() > 4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
            return all.filter(|tick| (self.low..=self.high).contains(tick)).collect();
        }
        let rough = self.high / 5.0;
        let unit = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * unit).find(|step| *step >= rough);
        let step = step.unwrap_or(unit * 10.0);
        (0..=10).map(|count| f64::from(count) * step).filter(|tick| *tick <= self.high).collect()
    }
}

impl Chart<'_> {
    /// `None` if no series has points.
    pub(super) fn draw(&self) -> Option<String> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let most = |of: fn(&(f64, f64)) -> f64| points().map(of).reduce(f64::max);
        let (x_high, y_high) = (most(|point| point.0)?, most(|point| point.1)?);
        let positive = points().map(|point| point.1).filter(|value| *value > 0.0).reduce(f64::min);
        let x = Axis::linear(x_high, LEFT, WIDTH - RIGHT);
        let y = match positive {
            Some(low) if !self.from_zero && y_high / low > WIDE => Axis::logarithmic(low, y_high, HEIGHT - BOTTOM, TOP),
            _ => Axis::linear(y_high, HEIGHT - BOTTOM, TOP),
        };

        let mut svg = format!(
            "<figure><figcaption>{}<span>{}</span></figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{}\">\n",
            escape(self.title),
            escape(self.about),
            escape(self.title)
        );
        self.axes(&mut svg, &x, &y);
        for (number, series) in self.series.iter().enumerate() {
            series.draw(&mut svg, number % 5, &x, &y, self);
        }
        svg += "</svg>\n<div class=\"legend\">";
        for (number, series) in self.series.iter().enumerate().filter(|(_, series)| !series.points.is_empty()) {
            let _ = write!(svg, "<span><i class=\"s{}\"></i>{}</span>", number % 5, escape(&series.name));
        }
        svg += "</div></figure>\n";
        Some(svg)
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                figure(tick)
            );
        }
        for tick in x.ticks() {
            let at = x.place(tick);
            let _ = writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                figure(tick)
            );
        }
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(13 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            escape(self.x),
            (TOP + bottom) / 2.0,
            escape(self.y)
        );
        for (number, (mark, name)) in self.marks.iter().enumerate() {
            let at = x.place(*mark);
            // Near the right edge the name is left of the line.
            let (anchor, aside) = if at > WIDTH * 0.75 { ("end", -5.0) } else { ("start", 5.0) };
            // The names are on separate lines, because marks may be close to each other.
            let name_at = 12.0 + 13.0 * number as f64;
            let _ = writeln!(
                svg,
                "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{}\" y2=\"{bottom}\"/>\
                 <text x=\"{:.1}\" y=\"{name_at}\" text-anchor=\"{anchor}\">{}</text>",
                name_at - 9.0,
                at + aside,
                escape(name)
            );
        }
    }
}

impl Series {
    fn draw(&self, svg: &mut String, colour: usize, x: &Axis, y: &Axis, chart: &Chart<'_>) {
        if self.intervals.len() > 1 {
            let up = self.intervals.iter().map(|(at, _, high)| (at, high));
            let down = self.intervals.iter().rev().map(|(at, low, _)| (at, low));
            let corners = up.chain(down).map(|(at, value)| format!("{:.1},{:.1}", x.place(*at), y.place(*value)));
            let _ = writeln!(
                svg,
                "<polygon class=\"band s{colour}\" points=\"{}\"/>",
                corners.collect::<Vec<_>>().join(" ")
            );
        }
        let places: Vec<_> = self.points.iter().map(|(at, value)| (x.place(*at), y.place(*value))).collect();
        let line: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(svg, "<polyline class=\"line s{colour}\" points=\"{}\"/>", line.join(" "));
        if places.len() > MOST_DOTS {
            return;
        }
        for ((px, py), (at, value)) in places.iter().zip(&self.points) {
            let _ = writeln!(
                svg,
                "<circle class=\"s{colour}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\"><title>{}: {} at {} ({}, {})</title></circle>",
                escape(&self.name),
                figure(*value),
                figure(*at),
                escape(chart.y),
                escape(chart.x)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)]) -> Chart<'static> {
        Chart {
            title: "A <b>",
            about: "",
            x: "x",
            y: "y",
            series: vec![Series::new("one & two", points.iter().map(|point| Some(*point)))],
            marks: vec![],
            from_zero: false,
        }
    }

    #[test]
    fn everything_is_drawn_inside_the_image_and_names_are_escaped() {
        for points in
            [vec![(1.0, 1.0)], vec![(0.0, 0.0)], vec![(1.0, 0.001), (50.0, 100.0)], vec![(1e-6, 1e9), (1e6, 1.0)]]
        {
            let svg = chart(&points).draw().unwrap();
            for circle in svg.split("<circle").skip(1) {
                let number = |key: &str| -> f64 {
                    circle.split(key).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
                };
                assert!(
                    (LEFT..=WIDTH).contains(&number("cx=\"")) && (0.0..=HEIGHT).contains(&number("cy=\"")),
                    "{circle}"
                );
            }
            assert!(svg.contains("A &lt;b&gt;") && svg.contains("one &amp; two") && !svg.contains("NaN"));
        }
        assert!(chart(&[]).draw().is_none());
    }

    #[test]
    fn ticks_are_round_and_few() {
        for (axis, ticks) in [
            (Axis::linear(19.0, 0.0, 1.0), vec![0.0, 5.0, 10.0, 15.0]),
            (Axis::linear(0.9, 0.0, 1.0), vec![0.0, 0.2, 0.4, 0.6, 0.8]),
            (Axis::logarithmic(0.1, 5.0, 0.0, 1.0), vec![0.1, 0.2, 0.5, 1.0, 2.0, 5.0]),
        ] {
            let seen = axis.ticks();
            assert_eq!(seen.len(), ticks.len(), "{seen:?}");
            assert!(seen.iter().zip(ticks).all(|(a, b)| (a - b).abs() < 1e-9), "{seen:?}");
        }
    }
}
