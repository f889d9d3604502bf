//! The GPUs. What reads a gauge of a device asks for `gpu_up == 1` too: a lost one's are NaN.

use llm_metrics_gpu::catalog as gpu;

use super::{Alert, Case, Series, Severity, Values, Variant, case::percent};
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

/// XIDs that mean that a GPU or its memory is broken; the collector has series for them from the start.
const GRAVE_XIDS: [&str; 8] = ["48", "62", "64", "74", "79", "95", "119", "120"];
/// Clock events that are faults. `gpu_idle` and `sw_power_cap` are none.
const THROTTLING: [&str; 4] = ["hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown"];

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let mut all = Vec::new();
    if !slo.gpu.memory_preallocated {
        all.extend([headroom(slo, rules), memory(slo, rules), forecast(slo, rules)]);
    }
    all.extend([xid(), throttled(), ecc(), hot(), lost(), recovery(), stale(slo)]);
    all
}

fn up(value: f64) -> Series {
    gauge!(gpu::UP).series(Values::flat(value))
}

/// A GPU of 100 bytes, which makes bytes percent.
fn used(values: Values) -> Vec<Series> {
    let total = gauge!(gpu::MEMORY_TOTAL).series(Values::flat(100.0));
    vec![gauge!(gpu::MEMORY_USED).series(values), total, up(1.0)]
}

fn headroom(slo: &Slo, rules: &Recording) -> Alert {
    let limit = slo.gpu.memory_headroom_ratio;
    let above = (limit + 0.01).min(f64::midpoint(limit, 1.0));
    Alert::new(
        MEMORY_HEADROOM_LOW,
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: {{ $value | humanizePercentage }} of memory used",
        format!("Less than {} is left for a longer context or more requests at once.", percent(1.0 - limit)),
    )
    .settings(&["gpu.memory_headroom_ratio", "gpu.memory_preallocated"])
    .variant(
        Variant::new(Severity::Warning, Window::minutes(15), rules.gpu_memory_ratio.now().gt(limit))
            .keep(Window::minutes(5)),
    )
    .case(Case::fires("just above", 17, percent(above), used(Values::flat(above * 100.0))))
    .case(Case::quiet("just below", 17, used(Values::flat((limit - 0.0001) * 100.0))))
    .case(Case::quiet("not yet for long enough", 14, used(Values::flat(above * 100.0))))
}

fn memory(slo: &Slo, rules: &Recording) -> Alert {
    let limit = slo.gpu.memory_ratio;
    let above = f64::midpoint(limit, 1.0);
    let lost = [used(Values::flat(above * 100.0)), vec![up(0.0)]].concat().into_iter();
    let lost = lost.filter(|series| *series != up(1.0)).collect();
    Alert::new(
        MEMORY_HIGH,
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: {{ $value | humanizePercentage }} of memory used",
        format!("More than {}: the next long request may fail for want of memory.", percent(limit)),
    )
    .settings(&["gpu.memory_ratio", "gpu.memory_preallocated"])
    .variant(Variant::new(Severity::Critical, SHORT, rules.gpu_memory_ratio.now().gt(limit)).keep(Window::minutes(5)))
    .case(Case::fires("just above", 7, percent(above), used(Values::flat(above * 100.0))))
    .case(Case::quiet("just below", 7, used(Values::flat((limit - 0.0001) * 100.0))))
    .case(Case::quiet("not yet for long enough", 4, used(Values::flat(above * 100.0))))
    .case(Case::quiet("of a GPU that is lost", 7, lost))
}

fn forecast(slo: &Slo, rules: &Recording) -> Alert {
    let hours = slo.gpu.memory_forecast_hours;
    let ratio = &rules.gpu_memory_ratio;
    let expr = ratio.now().gt(0.5).and(rules.gpu_memory_forecast.now().gt(1.0));
    // From 55 % on, so that after so many minutes the forecast is `reaches`.
    let rising = |reaches: f64, minutes: f64| {
        let by = (reaches - 55.0) / (minutes + hours * 60.0);
        (Values::flat(55.0).until(1, Values::rising(by)), 55.0 + by * 90.0)
    };
    let (leak, after_90) = rising(101.0, 45.0);
    let (slow, _) = rising(98.0, 90.0);
    Alert::new(
        "LlmGpuMemoryFillsUp",
        format!("GPU {{{{ $labels.gpu }}}} at {{{{ $labels.instance }}}}: memory will be full within {hours} h"),
        "{{ $value | humanizePercentage }} is used now. If it goes on like this last hour, there will be nothing left.",
    )
    .settings(&["gpu.memory_forecast_hours", "gpu.memory_preallocated"])
    .variant(Variant::new(Severity::Warning, Window::minutes(30), expr).keep(Window::minutes(10)))
    .case(Case::fires("a leak", 90, percent(after_90 / 100.0), used(leak)))
    .case(Case::quiet("too slow to matter", 90, used(slow)))
    .case(Case::quiet("full, and no fuller", 90, used(Values::flat(95.0))))
}

fn xid() -> Alert {
    let recent = |last: Gauge| (Expr::time() - last.now()).lt(300.0);
    let last = || gauge!(gpu::XID_LAST);
    // Seen in minute ten; cases begin at time 0.
    let seen =
        |xid: &str| vec![last().with("xid", xid).series(Values::absent().until(10, Values::flat(600.0))), up(0.0)];
    Alert::new(
        "LlmGpuXid",
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: XID {{ $labels.xid }}",
        "The driver reported an error in the last five minutes. The runbook says what the number means.",
    )
    .variant(Variant::new(Severity::Critical, Window::seconds(0), recent(last().with_any("xid", GRAVE_XIDS))))
    .variant(Variant::new(Severity::Info, Window::seconds(0), recent(last().without_any("xid", GRAVE_XIDS))))
    .case(Case::fires("the first XID ever, of a GPU that is lost by it", 11, "", seen("79")))
    .case(Case::quiet("one that is mostly a program's own fault", 11, seen("31")).firing(1, "", &[("xid", "31")]))
    .case(Case::quiet("more than five minutes ago", 15, seen("79")))
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
    Alert::new(
        "LlmGpuThrottled",
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: slowed down {{ $value | humanizePercentage }} of the time by {{ $labels.reason }}",
        "It does not run at the clock that it should. Heat, power supply and cooling are the usual causes.",
    )
    .variant(Variant::new(Severity::Warning, Window::minutes(10), expr).keep(Window::minutes(5)))
    .case(Case::fires("an eighth of the time", 12, "12.5%", series("hw_thermal_slowdown", 0.125)))
    .case(Case::quiet("a sixteenth of the time", 12, series("hw_thermal_slowdown", 0.0625)))
    .case(Case::quiet("idle, or at its power limit", 12, [series("gpu_idle", 1.0), series("sw_power_cap", 1.0)].concat()))
    .case(Case::quiet("not yet for long enough", 9, series("hw_thermal_slowdown", 0.125)))
}

fn ecc() -> Alert {
    let errors = || counter!(gpu::ECC_ERRORS).with("counter", "volatile");
    let uncorrected = || errors().with("severity", "uncorrected");
    let expr = uncorrected().increase(Window::minutes(15)).sum_by(Level::Gpu.labels()).gt(0.0);
    let once = Values::flat(3.0).until(10, Values::flat(4.0));
    Alert::new(
        "LlmGpuMemoryErrors",
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: memory errors that could not be corrected",
        "In the last quarter of an hour. Results since then may be wrong, and the process is likely to have died.",
    )
    .variant(Variant::new(Severity::Critical, Window::seconds(0), expr))
    .case(Case::fires("one more", 12, "", vec![uncorrected().series(once.clone())]))
    .case(Case::quiet("old ones", 12, vec![uncorrected().series(Values::flat(3.0))]))
    .case(Case::quiet("corrected ones", 12, vec![errors().with("severity", "corrected").series(once)]))
}

fn hot() -> Alert {
    let temperature = || gauge!(gpu::TEMPERATURE).with("sensor", "gpu");
    let slowdown = || gauge!(gpu::TEMPERATURE_LIMIT).with("kind", "slowdown");
    let by_gpu = |gauge: Gauge| gauge.now().max_by(Level::Gpu.labels());
    let expr = alive(by_gpu(temperature()).gt(by_gpu(slowdown()) - 5.0));
    let series = |celsius: f64| {
        vec![temperature().series(Values::flat(celsius)), slowdown().series(Values::flat(90.0)), up(1.0)]
    };
    Alert::new(
        "LlmGpuHot",
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: {{ $value }} degrees",
        "Less than five degrees below the temperature at which this GPU slows itself down.",
    )
    .variant(Variant::new(Severity::Warning, Window::minutes(10), expr).keep(Window::minutes(5)))
    .case(Case::fires("86 of 90 degrees", 12, "86", series(86.0)))
    .case(Case::quiet("85 of 90 degrees", 12, series(85.0)))
    .case(Case::quiet("not yet for long enough", 9, series(86.0)))
}

fn lost() -> Alert {
    Alert::new(
        GPU_LOST,
        "GPU {{ $labels.gpu }} at {{ $labels.instance }} does not answer",
        "The driver cannot reach it. What ran on it has failed or hangs.",
    )
    .variant(Variant::new(Severity::Critical, Window::minutes(1), gauge!(gpu::UP).now().equals(0.0)))
    .case(Case::fires("lost", 3, "0", vec![up(0.0)]))
    .case(Case::quiet("there", 3, vec![up(1.0)]))
    .case(Case::quiet(
        "away for a moment",
        3,
        vec![gauge!(gpu::UP).series(Values::flat(0.0).until(1, Values::flat(1.0)))],
    ))
}

fn recovery() -> Alert {
    let action = || gauge!(gpu::RECOVERY_ACTION);
    let series = |value: f64| vec![action().series(Values::flat(value)), up(1.0)];
    Alert::new(
        "LlmGpuNeedsRecovery",
        "GPU {{ $labels.gpu }} at {{ $labels.instance }}: the driver asks for action {{ $value }}",
        "1 is a reset, 2 a reboot, 3 to drain peer-to-peer traffic, 4 to drain and reset.",
    )
    .variant(Variant::new(Severity::Critical, SHORT, alive(action().now().gt(0.0))))
    .case(Case::fires("a reset", 7, "1", series(1.0)))
    .case(Case::quiet("nothing", 7, series(0.0)))
    .case(Case::quiet("not yet for long enough", 4, series(1.0)))
}

fn stale(slo: &Slo) -> Alert {
    let limit = slo.gpu.stale_seconds;
    let last = || gauge!(gpu::LAST_SUCCESS);
    Alert::new(
        "LlmGpuCollectorStale",
        "{{ $labels.instance }}: GPU readings are {{ printf \"%.0f\" $value }} s old",
        format!("Older than {limit} s. The collector hangs in the driver, and the figures are those of then."),
    )
    .settings(&["gpu.stale_seconds"])
    .variant(Variant::new(Severity::Warning, SHORT, (Expr::time() - last().now()).gt(limit)))
    .case(Case::fires(
        "stuck since minute ten",
        80,
        "4200",
        vec![last().series(Values::rising(60.0).until(11, Values::flat(600.0)))],
    ))
    .case(Case::quiet("read every time", 80, vec![last().series(Values::rising(60.0))]))
}
