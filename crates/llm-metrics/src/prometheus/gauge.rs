//! Gauges of the catalogues, stored here so that dialects can show them.

use std::{
    fmt::{self, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use metrics::GaugeFn;

use super::families::{Families, Series, braces};

/// The gauges of the catalogues.
pub(super) type Gauges = Families<GaugeSeries>;

#[derive(Debug)]
pub(super) struct GaugeSeries {
    /// The labels as rendered.
    braces: String,
    /// The bits of an `f64`.
    value: AtomicU64,
}

impl Series for GaugeSeries {
    type Shape = ();

    type Total = f64;

    const TYPE: &'static str = "gauge";

    fn new(labels: String, (): &()) -> Self {
        Self { braces: braces(&labels), value: AtomicU64::new(0) }
    }

    fn render(&self, name: &str, page: &mut String) -> fmt::Result {
        writeln!(page, "{name}{} {}", self.braces, Number(f64::from_bits(self.value.load(Relaxed))))
    }

    fn add_to(&self, total: &mut f64) {
        *total += f64::from_bits(self.value.load(Relaxed));
    }
}

impl GaugeFn for GaugeSeries {
    fn increment(&self, value: f64) {
        self.value.increment(value);
    }

    fn decrement(&self, value: f64) {
        self.value.decrement(value);
    }

    fn set(&self, value: f64) {
        self.value.set(value);
    }
}

/// A value in the text format.
pub(super) struct Number(pub(super) f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => value.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::{Gauge, Key, Label};

    use super::*;

    #[test]
    fn a_gauge_rises_and_falls_and_may_be_nan() {
        let mut gauges = Gauges::default();
        gauges.bind("g".to_owned(), ());
        let page = || {
            let mut page = String::new();
            gauges.render(&mut page);
            page
        };
        let gauge = Gauge::from_arc(gauges.register(&Key::from_parts("g", vec![Label::new("a", "b")]), &[]).unwrap());
        gauge.set(2.5);
        gauge.increment(1.0);
        gauge.decrement(3.0);
        assert_eq!(page(), "# TYPE g gauge\ng{a=\"b\"} 0.5\n\n");
        for (value, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "+Inf"), (f64::NEG_INFINITY, "-Inf")] {
            gauge.set(value);
            assert!(page().ends_with(&format!("}} {text}\n\n")), "{}", page());
        }
    }
}
