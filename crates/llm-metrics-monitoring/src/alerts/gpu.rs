//! Alerts about GPUs. An expression with a gauge of a device also requires `gpu_up == 1`, because gauges of a lost GPU are NaN.

use llm_metrics_gpu::catalog as gpu;

use super::{Alert, Case, Severity, TestSeries, Values, Variant, case::percent};
use crate::{
    counter, gauge,
    promql::{Expr, Gauge, Window},
    recording::{Recording, SHORT, alive},
    rule::Level,
    slo::Slo,
};

pub(crate) const MEMORY_HEADROOM_LOW: &str = "LlmGpuMemoryHeadroomLow";
pub(crate) const MEMORY_HIGH: &str = "LlmGpuMemoryHigh";
pub(crate) const GPU_LOST: &str = "LlmGpuLost";
pub(crate) const GPU_MISSING: &str = "LlmGpuMissing";

/// XIDs in addition to [`gpu::CRITICAL_XIDS`]: those that end a program that is not at fault (94), announce the meaning of another XID (154), report
/// that memory or links degrade (92, 157, 168, 171, 172), or whose meaning depends on the kernel log (144 to 149 of NVLink 5, 167).
const WARNING_XIDS: [u64; 14] = [92, 94, 144, 145, 146, 147, 148, 149, 154, 157, 167, 168, 171, 172];
/// Above this share of memory, the comparison with yesterday does not apply: a process that filled it may have been restarted since.
const NEARLY_FULL: f64 = 0.95;
/// Clock events that are faults. `gpu_idle` and `sw_power_cap` are not.
const THROTTLING: [&str; 4] = ["hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown"];

pub(crate) const XID: &str = "LlmGpuXid";

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let mut all = Vec::new();
    if !slo.gpu.memory_preallocated {
        all.extend([headroom(slo, rules), memory(slo, rules), forecast(slo, rules)]);
    }
    all.extend([xid(), throttled(), ecc(), hot(), lost(), missing(), recovery(), stale(slo)]);
    all
}

fn up(value: f64) -> TestSeries {
    gauge!(gpu::UP).series(Values::flat(value))
}

/// A GPU with 100 bytes, so that bytes are percent.
fn used(values: Values) -> Vec<TestSeries> {
    let total = gauge!(gpu::MEMORY_TOTAL).series(Values::flat(100.0));
    vec![gauge!(gpu::MEMORY_USED).series(values), total, up(1.0)]
}

/// The value, and 0 from that minute on.
fn ends_at(minute: u32, value: f64) -> Values {
    Values::flat(value).until(minute, Values::flat(0.0))
}

fn headroom(slo: &Slo, rules: &Recording) -> Alert {
    let limit = slo.gpu.memory_headroom_ratio;
    let above = (limit + 0.01).min(f64::midpoint(limit, 1.0));
    Alert::new(
        MEMORY_HEADROOM_LOW,
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: {{ $value | humanizePercentage }} of memory used",
        format!("Less than {} is left for longer contexts or for more concurrent requests.", percent(1.0 - limit)),
    )
    .settings(&["gpu.memory_headroom_ratio", "gpu.memory_preallocated"])
    .variant(
        Variant::new(Severity::Warning, Window::minutes(15), rules.gpu_memory_ratio.now().gt(limit))
            .keep_firing_for(Window::minutes(5)),
    )
    .case(Case::fires("just above", 17, percent(above), used(Values::flat(above * 100.0))))
    .case(Case::quiet("just below", 17, used(Values::flat((limit - 0.0001) * 100.0))))
    .case(Case::quiet("not yet for long enough", 14, used(Values::flat(above * 100.0))))
    .case(Case::fires("over for a moment", 20, percent(above), used(ends_at(17, above * 100.0))))
}

fn memory(slo: &Slo, rules: &Recording) -> Alert {
    let limit = slo.gpu.memory_ratio;
    let above = f64::midpoint(limit, 1.0);
    let lost = [used(Values::flat(above * 100.0)), vec![up(0.0)]].concat().into_iter();
    let lost = lost.filter(|series| *series != up(1.0)).collect();
    Alert::new(
        MEMORY_HIGH,
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: {{ $value | humanizePercentage }} of memory used",
        format!("More than {}: the next long request may run out of memory.", percent(limit)),
    )
    .settings(&["gpu.memory_ratio", "gpu.memory_preallocated"])
    .variant(
        Variant::new(Severity::Critical, SHORT, rules.gpu_memory_ratio.now().gt(limit))
            .keep_firing_for(Window::minutes(5)),
    )
    .case(Case::fires("just above", 7, percent(above), used(Values::flat(above * 100.0))))
    .case(Case::quiet("just below", 7, used(Values::flat((limit - 0.0001) * 100.0))))
    .case(Case::quiet("not yet for long enough", 4, used(Values::flat(above * 100.0))))
    .case(Case::fires("over for a moment", 10, percent(above), used(ends_at(7, above * 100.0))))
    .case(Case::quiet("of a GPU that is lost", 7, lost))
}

fn forecast(slo: &Slo, rules: &Recording) -> Alert {
    let hours = slo.gpu.memory_forecast_hours;
    let ratio = &rules.gpu_memory_ratio;
    // A slope of less than an hour is part of a warm-up.
    let known = ratio.gauge().offset(Window::hours(1)).now();
    let expr = ratio.now().gt(0.5).and(rules.gpu_memory_forecast.now().gt(1.0)).and(known.gt(0.0));
    let expr = expr.unless(as_yesterday(slo, rules));
    // From 55 % on, so that the forecast is `reaches` after this many minutes.
    let rising = |reaches: f64, minutes: f64| {
        let by = (reaches - 55.0) / (minutes + hours * 60.0);
        (Values::flat(55.0).until(1, Values::rising(by)), 55.0 + by * 100.0)
    };
    let (leak, after_100) = rising(101.0, 45.0);
    let (slow, _) = rising(98.0, 100.0);
    let full_tomorrow = Values::flat(40.0).until(1, Values::rising(9.0 / 100.0));
    // At the end it is full within hours. It is half full after 150 minutes.
    let from_little = Values::flat(5.0).until(1, Values::rising(0.3));
    let from_half = |minutes: f64| 51.0 + (101.0 - 51.0) / (45.0 + hours * 60.0) * minutes;
    let leak_from_half = || Values::flat(51.0).until(1, Values::rising(from_half(1.0) - 51.0));
    Alert::new(
        "LlmGpuMemoryFillsUp",
        format!("GPU {{{{ $labels.gpu }}}} at {{{{ $labels.instance }}}}: memory will be full within {hours} h"),
        "{{ $value | humanizePercentage }} is used now. The forecast continues the growth of the last hour and of the last 15 minutes.",
    )
    .settings(&["gpu.memory_forecast_hours", "gpu.memory_preallocated"])
    .variant(Variant::new(Severity::Warning, Window::minutes(30), expr).keep_firing_for(Window::minutes(10)))
    .case(Case::fires("a leak", 100, percent(after_100 / 100.0), used(leak)))
    .case(Case::quiet("too slow to matter", 100, used(slow)))
    .case(Case::quiet("full, and no fuller", 100, used(Values::flat(95.0))))
    .case(Case::quiet("less than half is used", 100, used(full_tomorrow)))
    .case(Case::quiet("nearly half is used, and it rises fast", 149, used(from_little)))
    .case(Case::fires("a leak from half on", 93, percent(from_half(93.0) / 100.0), used(leak_from_half())))
    .case(Case::quiet("a leak, not yet for long enough", 80, used(leak_from_half())))
    .case(Case::quiet("a leak that was stopped a moment ago", 105, used(leak_from_half().until(96, Values::flat(0.0)))).surely(0))
    .cases([40, 50, 85, 120].map(|at| {
        let warm_up = Values::flat(55.0).until(1, Values::rising(1.0)).until(21, Values::flat(75.0));
        Case::quiet(format!("a warm-up of twenty minutes, at minute {at}"), at, used(warm_up))
    }))
    .cases([55, 80].map(|at| {
        let warm_up = Values::flat(30.0).until(1, Values::rising(1.5)).until(41, Values::flat(90.0));
        Case::quiet(format!("a warm-up of forty minutes, at minute {at}"), at, used(warm_up))
    }))
}

/// If memory follows days and nights: yesterday's forecast for this hour was too high, and today's minus that error is not above 1. Not if memory was
/// nearly full then.
fn as_yesterday(slo: &Slo, rules: &Recording) -> Expr {
    let day = Window::days(1).as_seconds().unwrap_or_default();
    let ahead = ((slo.gpu.memory_forecast_hours * 3600.0).round() as u32).min(day);
    let forecast = || rules.gpu_memory_forecast.gauge();
    // The hours of yesterday's forecast.
    let highest = || {
        let ratio = rules.gpu_memory_ratio.gauge();
        let then = if ahead < day { ratio.offset(Window::seconds(day - ahead)) } else { ratio };
        then.max_over_time(Window::seconds(ahead))
    };
    let error = forecast().offset(Window::days(1)).now() - highest();
    (forecast().now() - error).le(1.0).and(highest().lt(NEARLY_FULL))
}

fn xid() -> Alert {
    let recent = |last: Gauge| (Expr::time() - last.now()).lt(300.0);
    let last = || gauge!(gpu::XID_LAST);
    let at_once = |severity, last| Variant::new(severity, Window::seconds(0), recent(last));
    // Seen in minute ten; cases begin at time 0.
    let seen =
        |xid: &str| vec![last().with("xid", xid).series(Values::absent().until(10, Values::flat(600.0))), up(0.0)];
    let critical = gpu::CRITICAL_XIDS.map(|xid| xid.to_string());
    let warning = WARNING_XIDS.map(|xid| xid.to_string());
    let graded = critical.iter().chain(&warning);
    Alert::new(
        XID,
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: XID {{ $labels.xid }}",
        "The driver reported an error in the last five minutes. The runbook explains the number. 79, 119 and 120 are only reported if the collector can read `/dev/kmsg`.",
    )
    .variant(at_once(Severity::Critical, last().with_any("xid", &critical)))
    .variant(at_once(Severity::Warning, last().with_any("xid", &warning)))
    .variant(at_once(Severity::Info, last().without_any("xid", graded)))
    .cases(critical.iter().map(|xid| Case::quiet(format!("XID {xid}"), 11, seen(xid)).firing(0, "", &[("xid", xid)])))
    .cases(warning.iter().map(|xid| Case::quiet(format!("XID {xid}"), 11, seen(xid)).firing(1, "", &[("xid", xid)])))
    .case(Case::fires("the first XID ever, of a GPU that is lost by it", 11, "", seen("79")))
    .case(Case::quiet("one that is mostly a program's own fault", 11, seen("31")).firing(2, "", &[("xid", "31")]))
    .cases(["79", "94", "31"].into_iter().enumerate().flat_map(|(variant, number)| {
        let at = |what: &str, minute| Case::quiet(format!("XID {number}, {what}"), minute, seen(number));
        [at("four minutes ago", 14).firing(variant, "", &[("xid", number)]), at("more than five minutes ago", 15)]
    }))
    .case(Case::quiet(
        "a count that only stands there",
        30,
        vec![
            counter!(gpu::XID_ERRORS).with("xid", "79").series(Values::flat(3.0)),
            last().with("xid", "79").series(Values::flat(60.0)),
        ],
    ))
}

fn throttled() -> Alert {
    let active = || gauge!(gpu::CLOCK_EVENT);
    let expr = alive(active().with_any("reason", THROTTLING).avg_over_time(SHORT)).gt(0.1);
    let series = |reason: &str, share: f64| vec![active().with("reason", reason).series(Values::flat(share)), up(1.0)];
    let at_times = |values| vec![active().with("reason", "hw_thermal_slowdown").series(values), up(1.0)];
    let lost = vec![active().with("reason", "hw_thermal_slowdown").series(Values::flat(1.0)), up(0.0)];
    Alert::new(
        "LlmGpuThrottled",
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: slowed down {{ $value | humanizePercentage }} of the time by {{ $labels.reason }}",
        "The GPU has lowered its clock. Heat, power supply and cooling are the usual causes.",
    )
    .variant(Variant::new(Severity::Warning, Window::minutes(10), expr).keep_firing_for(Window::minutes(5)))
    .case(Case::fires("an eighth of the time", 12, "12.5%", series("hw_thermal_slowdown", 0.125)))
    .case(Case::quiet("a sixteenth of the time", 12, series("hw_thermal_slowdown", 0.0625)))
    .case(Case::quiet("idle, or at its power limit", 12, [series("gpu_idle", 1.0), series("sw_power_cap", 1.0)].concat()))
    .case(Case::quiet("not yet for long enough", 9, series("hw_thermal_slowdown", 0.125)))
    .cases(THROTTLING.map(|reason| {
        let case = Case::quiet(format!("{reason} for an eighth of the time"), 12, series(reason, 0.125));
        case.firing(0, "12.5%", &[("reason", reason)])
    }))
    .case(Case::quiet("nearly a tenth of the time", 12, series("hw_thermal_slowdown", 0.09)))
    .case(Case::fires("all the time, for eleven minutes", 16, "100%", at_times(Values::flat(0.0).until(5, Values::flat(1.0)))))
    .case(Case::quiet("all the time, until two minutes ago", 22, at_times(ends_at(20, 1.0))).surely(0))
    .case(Case::quiet("over for a moment", 27, at_times(ends_at(20, 1.0))).surely(0))
    .case(Case::quiet("of a GPU that is lost", 12, lost))
}

fn ecc() -> Alert {
    let errors = || counter!(gpu::ECC_ERRORS).with("counter", "volatile");
    let uncorrected = || errors().with("severity", "uncorrected");
    let expr = uncorrected().increase(Window::minutes(15)).sum_by(Level::Gpu.labels()).gt(0.0);
    let once = Values::flat(3.0).until(10, Values::flat(4.0));
    Alert::new(
        "LlmGpuMemoryErrors",
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: memory errors that could not be corrected",
        "In the last 15 minutes. Results since then may be wrong, and the process has probably crashed.",
    )
    .variant(Variant::new(Severity::Critical, Window::seconds(0), expr))
    .case(Case::fires("one more", 12, "", vec![uncorrected().series(once.clone())]))
    .case(Case::quiet("old ones", 12, vec![uncorrected().series(Values::flat(3.0))]))
    .case(Case::fires("one more, ten minutes ago", 20, "", vec![uncorrected().series(once.clone())]))
    .case(Case::quiet("one more, eighteen minutes ago", 28, vec![uncorrected().series(once.clone())]))
    .case(Case::quiet(
        "since the driver was loaded, as read again",
        12,
        vec![
            counter!(gpu::ECC_ERRORS).with("counter", "aggregate").with("severity", "uncorrected").series(once.clone()),
        ],
    ))
    .case(Case::quiet("corrected ones", 12, vec![errors().with("severity", "corrected").series(once)]))
}

fn hot() -> Alert {
    let temperature = || gauge!(gpu::TEMPERATURE).with("sensor", "gpu");
    let slowdown = || gauge!(gpu::TEMPERATURE_LIMIT).with("kind", "slowdown");
    let by_gpu = |gauge: Gauge| gauge.now().max_by(Level::Gpu.labels());
    let expr = alive(by_gpu(temperature()).gt(by_gpu(slowdown()) - 5.0));
    let series = |celsius: f64| {
        let beside = [
            // Memory may be hotter, and has other limits.
            gauge!(gpu::TEMPERATURE).with("sensor", "memory").series(Values::flat(95.0)),
            gauge!(gpu::TEMPERATURE_LIMIT).with("kind", "shutdown").series(Values::flat(105.0)),
        ];
        let own = [temperature().series(Values::flat(celsius)), slowdown().series(Values::flat(90.0)), up(1.0)];
        own.into_iter().chain(beside).collect::<Vec<_>>()
    };
    let of = |values, up| vec![temperature().series(values), slowdown().series(Values::flat(90.0)), up];
    Alert::new(
        "LlmGpuHot",
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: {{ $value }} degrees",
        "Less than five degrees below the temperature at which this GPU slows itself down.",
    )
    .variant(Variant::new(Severity::Warning, Window::minutes(10), expr).keep_firing_for(Window::minutes(5)))
    .case(Case::fires("86 of 90 degrees", 12, "86", series(86.0)))
    .case(Case::quiet("85 of 90 degrees", 12, series(85.0)))
    .case(Case::quiet("not yet for long enough", 9, series(86.0)))
    .case(Case::fires("over for a moment", 15, "86", of(ends_at(12, 86.0), up(1.0))))
    .case(Case::quiet("of a GPU that is lost", 12, of(Values::flat(86.0), up(0.0))))
}

fn lost() -> Alert {
    Alert::new(
        GPU_LOST,
        "GPU {{ $labels.gpu }} at {{ $labels.instance }} does not answer",
        "The driver cannot reach it. Programs on this GPU have failed or hang.",
    )
    .variant(Variant::new(Severity::Critical, Window::minutes(1), gauge!(gpu::UP).now().equals(0.0)))
    .case(Case::fires("lost", 3, "0", vec![up(0.0)]))
    .case(Case::quiet("there", 3, vec![up(1.0)]))
    .case(Case::quiet(
        "not yet for long enough",
        3,
        vec![gauge!(gpu::UP).series(Values::flat(1.0).until(3, Values::flat(0.0)))],
    ))
    .case(Case::quiet(
        "away for a moment",
        3,
        vec![gauge!(gpu::UP).series(Values::flat(0.0).until(1, Values::flat(1.0)))],
    ))
}

/// A GPU that was lost before the collector started has no name, and no `gpu_up`.
fn missing() -> Alert {
    let devices = |state: &str, values| gauge!(gpu::DEVICES).with("state", state).series(values);
    let expr = gauge!(gpu::DEVICES).with("state", "missing").now().max_by(Level::Instance.labels()).gt(0.0);
    Alert::new(
        GPU_MISSING,
        "{{ $labels.instance }}: {{ $value }} GPUs are missing",
        "The driver lists them, or the collector is configured for them, but they cannot be read. They were lost before the collector started, so their identity is not known.",
    )
    .variant(Variant::new(Severity::Critical, Window::minutes(2), expr))
    .case(Case::fires("one of two", 4, "1", vec![devices("found", Values::flat(1.0)), devices("missing", Values::flat(1.0))]))
    .case(Case::quiet("all are there", 4, vec![devices("found", Values::flat(2.0)), devices("missing", Values::flat(0.0))]))
    .case(Case::quiet("some may not be read", 4, vec![devices("denied", Values::flat(2.0)), devices("missing", Values::flat(0.0))]))
    .case(Case::quiet("not yet for long enough", 1, vec![devices("missing", Values::flat(1.0))]))
    .case(Case::quiet("late", 4, vec![devices("missing", Values::flat(1.0).until(2, Values::flat(0.0)))]))
}

fn recovery() -> Alert {
    let action = || gauge!(gpu::RECOVERY_ACTION);
    let series = |value: f64| vec![action().series(Values::flat(value)), up(1.0)];
    Alert::new(
        "LlmGpuNeedsRecovery",
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: the driver asks for action {{ $value }}",
        "1: reset, 2: reboot, 3: drain peer-to-peer traffic, 4: drain and reset.",
    )
    .variant(Variant::new(Severity::Critical, SHORT, alive(action().now().gt(0.0))))
    .case(Case::fires("a reset", 7, "1", series(1.0)))
    .case(Case::quiet("nothing", 7, series(0.0)))
    .case(Case::quiet("not yet for long enough", 4, series(1.0)))
    .case(Case::quiet("of a GPU that is lost", 7, vec![action().series(Values::flat(1.0)), up(0.0)]))
}

fn stale(slo: &Slo) -> Alert {
    let limit = slo.gpu.stale_seconds;
    let last = || gauge!(gpu::LAST_SUCCESS);
    // Read this many seconds before each scrape.
    let behind = |seconds: f64| last().series(Values::flat(-seconds).until(1, Values::rising(60.0)));
    Alert::new(
        "LlmGpuCollectorStale",
        "{{ $labels.instance }}: GPU readings are {{ printf \"%.0f\" $value }} s old",
        format!("Older than {limit} s. The collector hangs in the driver, and the GPU metrics are out of date."),
    )
    .settings(&["gpu.stale_seconds"])
    .variant(Variant::new(Severity::Warning, SHORT, (Expr::time() - last().now()).gt(limit)))
    .case(Case::fires(
        "stuck since minute ten",
        80,
        "4200",
        vec![last().series(Values::rising(60.0).until(11, Values::flat(600.0)))],
    ))
    .case(Case::fires(
        "stuck for ten minutes",
        20,
        "600",
        vec![last().series(Values::rising(60.0).until(11, Values::flat(600.0)))],
    ))
    .case(Case::quiet(
        "not yet for long enough",
        15,
        vec![last().series(Values::rising(60.0).until(11, Values::flat(600.0)))],
    ))
    .case(Case::fires("a little too old all the time", 20, format!("{:.0}", limit + 5.0), vec![behind(limit + 5.0)]))
    .case(Case::quiet("a little less old, each time", 20, vec![behind(limit - 5.0)]))
    .case(Case::quiet("read every time", 80, vec![last().series(Values::rising(60.0))]))
}
