//! Reasons why a comparison may be misleading.

use llm_metrics_gpu::catalog::labels;

use super::{SAME_RATE, last_tries};
use crate::{
    baseline::{Baseline, Verdict},
    figure,
    settings::Rates,
};

pub(super) fn notes(old: &Baseline, new: &Baseline) -> Vec<String> {
    let mut notes = Vec::new();
    let (a, b) = (&old.settings, &new.settings);
    let mut differ = |what: &str, differ: bool| {
        if differ {
            notes.push(format!("The two runs differ in {what}: a change may come from that."));
        }
    };
    differ("what was asked (workload)", a.workload != b.workload);
    differ("the model's name", a.model != b.model);
    differ("the protocol", a.protocol != b.protocol);
    differ("the machine that the load came from", old.machine != new.machine);
    let gpu = labels::NAME.name;
    differ("the GPU", old.server.gpu_info.get(gpu) != new.server.gpu_info.get(gpu));
    let has_rate = |baseline: &Baseline, rate: f64| {
        let mut steps = last_tries(baseline).into_iter().filter(|step| step.verdict != Verdict::Unknown);
        steps.any(|step| (step.rate / rate - 1.0).abs() < SAME_RATE)
    };
    if let Rates::Fixed(rates) = &old.settings.rates {
        let missing = rates.iter().filter(|rate| has_rate(old, **rate) && !has_rate(new, **rate));
        notes.extend(missing.map(|rate| {
            format!("At {} requests/s nothing was compared: the new run does not have it.", figure(*rate))
        }));
    }
    for (which, baseline) in [("old", old), ("new", new)] {
        notes.extend(baseline.findings.iter().map(|finding| format!("The {which} run says: {finding}")));
    }
    notes
}
