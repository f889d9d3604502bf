//! Counters that a scrape reads in a fixed order.

use std::{
    fmt::{self, Write},
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
};

use metrics::CounterFn;

use super::families::{Families, Series, braces};

/// The counters of the catalogues, rendered in the order of registration.
///
/// The underlying exporter reads counters in the order of a hash table, so a scrape may include a request as ended and miss its tokens. Here, the
/// counter that is incremented last is read first: a page that includes its increment also includes the earlier ones.
pub(super) type Counters = Families<CounterSeries>;

#[derive(Debug)]
pub(super) struct CounterSeries {
    /// The labels as rendered.
    braces: String,
    count: AtomicU64,
}

impl Series for CounterSeries {
    type Shape = ();

    type Total = u64;

    const TYPE: &'static str = "counter";

    fn new(labels: String, (): &()) -> Self {
        Self { braces: braces(&labels), count: AtomicU64::new(0) }
    }

    fn render(&self, name: &str, page: &mut String) -> fmt::Result {
        // Pairs with the release below: everything counted before this counter was incremented is visible.
        writeln!(page, "{name}{} {}", self.braces, self.count.load(Acquire))
    }

    fn add_to(&self, total: &mut u64) {
        *total += self.count.load(Acquire);
    }
}

impl CounterFn for CounterSeries {
    fn increment(&self, value: u64) {
        self.count.fetch_add(value, Release);
    }

    fn absolute(&self, value: u64) {
        self.count.fetch_max(value, Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use metrics::{Key, Label};

    use super::*;

    fn page(counters: &Counters) -> String {
        let mut page = String::new();
        counters.render(&mut page);
        page
    }

    #[test]
    fn counters_are_rendered_in_the_order_of_binding_and_never_decrease() {
        let mut counters = Counters::default();
        for name in ["z_total", "a_total", "z_total"] {
            counters.bind(name.to_owned(), ());
        }
        counters.describe("a_total", &"Words.".into());
        let count = |key: &Key| counters.register(key, &[Label::new("region", "eu")]).unwrap();
        let a = Key::from_parts("a_total", vec![Label::new("model", "m")]);
        count(&a).increment(2);
        count(&a).increment(1);
        count(&Key::from_name("z_total")).absolute(7);
        count(&Key::from_name("z_total")).absolute(5);
        assert_eq!(
            page(&counters),
            "# TYPE z_total counter\nz_total{region=\"eu\"} 7\n\n\
             # HELP a_total Words.\n# TYPE a_total counter\na_total{region=\"eu\",model=\"m\"} 3\n\n"
        );
    }

    #[test]
    fn a_counter_that_is_recorded_last_and_read_first_is_never_ahead() {
        let mut counters = Counters::default();
        let names = ["last_total", "first_total"];
        names.iter().for_each(|name| counters.bind((*name).to_owned(), ()));
        let handles = names.map(|name| counters.register(&Key::from_name(name), &[]).unwrap());
        let (counters, stop) = (Arc::new(counters), std::sync::atomic::AtomicBool::new(false));
        std::thread::scope(|scope| {
            let [last, first] = &handles;
            scope.spawn(|| {
                while !stop.load(Acquire) {
                    first.increment(1);
                    last.increment(1);
                }
            });
            for _ in 0..20_000 {
                let page = page(&counters);
                let value = |name: &str| -> u64 {
                    page.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
                };
                assert!(value("last_total ") <= value("first_total "), "{page}");
            }
            stop.store(true, Release);
        });
    }
}
