//! Parses samples in Prometheus' text format, as far as needed here.

/// A line with a value.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    labels: &'a str,
    value: f64,
}

/// The samples of a page. A line that cannot be parsed is skipped.
pub(super) fn samples(page: &str) -> impl Iterator<Item = Sample<'_>> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (name, labels, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let end = end_of_labels(rest)?;
            (name, &rest[..end], &rest[end + 1..])
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name, "", rest)
        }
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.trim(), labels, value })
}

/// The closing brace that is not inside a value.
fn end_of_labels(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    labels.bytes().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'}' => return !quoted,
            _ => {}
        }
        false
    })
}

impl Sample<'_> {
    /// The value as a count. `None` for NaN, a negative value, and one that is too large to be exact.
    pub(super) fn count(&self) -> Option<u64> {
        const LARGEST_EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
        (0.0..=LARGEST_EXACT).contains(&self.value).then_some(self.value as u64)
    }

    /// The value as a share. `None` if it is not from 0 to 1.
    pub(super) fn ratio(&self) -> Option<f64> {
        (0.0..=1.0).contains(&self.value).then_some(self.value)
    }

    /// A label's value.
    pub(super) fn label(&self, name: &str) -> Option<String> {
        let mut rest = self.labels;
        loop {
            let (key, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, char) => value.push(char),
                }
            };
            if key.trim_matches([',', ' ']) == name {
                return Some(value);
            }
            rest = &after[end + 1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_line_by_line() {
        let page = concat!(
            "# HELP a b\n# TYPE a gauge\n",
            "plain 1.5\n",
            "timed 2 1700000000000\n",
            "vllm:num_requests_running{engine=\"0\",model_name=\"a}\\\"b\\\\\"} 3.0\n",
            "nonsense\nbroken{x=\"1 2\nbroken{} x\nnan NaN\n",
        );
        let all: Vec<_> = samples(page).collect();
        let names: Vec<_> = all.iter().map(|sample| sample.name).collect();
        assert_eq!(names, ["plain", "timed", "vllm:num_requests_running", "nan"]);
        assert_eq!((all[0].value, all[1].value, all[2].value), (1.5, 2.0, 3.0));
        assert_eq!(all[2].label("model_name").as_deref(), Some("a}\"b\\"));
        assert_eq!(all[2].label("engine").as_deref(), Some("0"));
        assert_eq!((all[2].label("name"), all[0].label("x")), (None, None));
    }

    #[test]
    fn a_value_that_no_count_or_share_can_have_is_not_known() {
        let value = |value: &str| {
            let page = format!("a {value}\n");
            let sample = samples(&page).next().unwrap();
            (sample.count(), sample.ratio())
        };
        assert_eq!(value("0"), (Some(0), Some(0.0)));
        assert_eq!(value("1"), (Some(1), Some(1.0)));
        assert_eq!(value("1.5"), (Some(1), None));
        assert_eq!(value("9007199254740992"), (Some(1 << 53), None));
        for unknown in ["9007199254740994", "-1", "NaN", "+Inf", "-Inf"] {
            assert_eq!(value(unknown), (None, None), "{unknown}");
        }
    }
}
