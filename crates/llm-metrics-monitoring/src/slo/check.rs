//! What values can be, and what to say when they cannot.

use garde::Error;
use llm_metrics::catalog::MetricDef;

type Checked = garde::Result;

/// A bucket bound of the histogram.
pub(super) fn bound(row: &'static MetricDef) -> impl Fn(&f64, &()) -> Checked {
    move |value, ()| {
        let bounds = row.buckets;
        if bounds.contains(value) {
            return Ok(());
        }
        let below = bounds.iter().rev().find(|bound| *bound < value);
        let above = bounds.iter().find(|bound| *bound > value);
        let nearest = match (below, above) {
            (Some(below), Some(above)) => format!("the nearest are {below} and {above}"),
            (Some(last), None) => format!("it is beyond the last one, {last}: nothing above that can be told apart"),
            (None, Some(first)) => format!("the nearest is {first}"),
            (None, None) => "it is no number".to_owned(),
        };
        Err(Error::new(format!("{value} is no bucket bound of {}; {nearest}", row.name)))
    }
}

/// A bucket bound of the histogram that a quantile can exceed: quantiles end at the last bound.
pub(super) fn bound_below_last(row: &'static MetricDef) -> impl Fn(&f64, &()) -> Checked {
    move |value, ()| match row.buckets {
        [.., before, last] if value == last => Err(Error::new(format!(
            "no quantile of {} is ever above {last}, its last bucket bound, so that this would never fire; \
             the nearest is {before}",
            row.name
        ))),
        _ => bound(row)(value, &()),
    }
}

/// A share that leaves a budget.
pub(super) fn objective(value: &f64, _: &()) -> Checked {
    if (0.5..1.0).contains(value) {
        return Ok(());
    }
    Err(Error::new(format!("{value} is no objective: give a share of at least 0.5 and below 1, such as 0.995")))
}

/// A share.
pub(super) fn ratio(value: &f64, _: &()) -> Checked {
    if *value > 0.0 && *value < 1.0 {
        return Ok(());
    }
    Err(Error::new(format!("{value} is no share: give a number between 0 and 1, such as 0.05 for 5 %")))
}

pub(super) fn not_negative(value: &f64, _: &()) -> Checked {
    if value.is_finite() && *value >= 0.0 {
        return Ok(());
    }
    Err(Error::new(format!("{value} has to be 0 or more")))
}

pub(super) fn number_within(least: f64, most: f64) -> impl Fn(&f64, &()) -> Checked {
    move |value, ()| {
        if (least..=most).contains(value) {
            return Ok(());
        }
        Err(Error::new(format!("{value} has to be between {least} and {most}")))
    }
}

/// A name of a scrape job: anything that can stand in a file.
pub(super) fn job(value: &str, _: &()) -> Checked {
    if !value.is_empty() && !value.contains(char::is_control) {
        return Ok(());
    }
    Err(Error::new(format!("{value:?} is no job: give the job_name of the scrape configuration")))
}

/// Each of them once: two alerts about one job would be told apart by nothing.
pub(super) fn distinct(jobs: &[String], _: &()) -> Checked {
    match jobs.iter().enumerate().find(|(index, job)| jobs[..*index].contains(job)) {
        Some((_, job)) => Err(Error::new(format!("{job:?} is there twice"))),
        None => Ok(()),
    }
}

pub(super) fn runbooks(value: &str, _: &()) -> Checked {
    if !value.is_empty() && !value.ends_with('/') && !value.contains(char::is_whitespace) && !value.contains("{{") {
        return Ok(());
    }
    Err(Error::new("give an address or a folder, without a slash at its end"))
}

/// A label that targets can have.
pub(super) fn label(value: &str, _: &()) -> Checked {
    let begins =
        value.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && !value.starts_with("__");
    if begins && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(Error::new(format!("{value:?} is no label: use letters, digits and underscores, and begin with a letter")))
}

/// Not below another field.
pub(super) fn at_least(field: &'static str, least: f64) -> impl Fn(&f64, &()) -> Checked {
    move |value, ()| {
        if *value >= least {
            return Ok(());
        }
        Err(Error::new(format!("{value} is below {field}, which is {least}")))
    }
}
