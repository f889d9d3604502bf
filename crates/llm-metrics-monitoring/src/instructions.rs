//! The part of each runbook that is written by hand, in this crate's folder `runbooks`, and so the names of all alerts.

macro_rules! by_hand {
    ($($alert:literal),+ $(,)?) => {
        &[$(($alert, include_str!(concat!("../runbooks/", $alert, ".md")))),+]
    };
}

/// The hand-written part. `{llm}` and `{gpu}` stand for the prefixes of metrics and rules.
const BY_HAND: &[(&str, &str)] = by_hand![
    "LlmAnswersCut",
    "LlmAttainmentLow",
    "LlmCrashLoop",
    "LlmErrorBudgetBurn",
    "LlmErrorRatioHigh",
    "LlmGatewayAttemptsFail",
    "LlmGatewayQuotaLow",
    "LlmGatewayUpstreamDown",
    "LlmGpuCollectorStale",
    "LlmGpuHot",
    "LlmGpuLost",
    "LlmGpuMemoryErrors",
    "LlmGpuMemoryFillsUp",
    "LlmGpuMemoryHeadroomLow",
    "LlmGpuMemoryHigh",
    "LlmGpuMissing",
    "LlmGpuNeedsRecovery",
    "LlmGpuThrottled",
    "LlmGpuXid",
    "LlmInstanceFailing",
    "LlmInterTokenLatencyBudgetBurn",
    "LlmKvCacheFull",
    "LlmMetricsMissing",
    "LlmModelGone",
    "LlmModelRejected",
    "LlmModelStalled",
    "LlmMostlyCancelled",
    "LlmMostlyRejected",
    "LlmNoTraffic",
    "LlmOutputEmpty",
    "LlmOutputRepeats",
    "LlmQueueGrowing",
    "LlmRequestDurationP95High",
    "LlmRequestDurationP99High",
    "LlmRequestRateHigh",
    "LlmRequestRateLow",
    "LlmRulesNotEvaluated",
    "LlmScrapeSlow",
    "LlmSeriesOverflow",
    "LlmSpecialTokensLeak",
    "LlmStalled",
    "LlmStructuredOutputInvalid",
    "LlmTargetAbsent",
    "LlmTargetDown",
    "LlmTimeToFirstTokenBudgetBurn",
    "LlmTimeToFirstTokenUnusual",
    "LlmTokenThroughputLow",
    "LlmToolCallsInvalid",
    "LlmWatchdog",
];

/// The names of all alerts.
pub(crate) fn alerts() -> impl Iterator<Item = &'static str> + Clone {
    BY_HAND.iter().map(|(name, _)| *name)
}

/// The hand-written part of the runbook of an alert.
pub(crate) fn of(alert: &str) -> Option<&'static str> {
    BY_HAND.iter().find(|(name, _)| *name == alert).map(|(_, text)| *text)
}

/// The meaning of each alert: the first sentence of its hand-written part.
pub(crate) fn meanings() -> impl Iterator<Item = (&'static str, String)> {
    BY_HAND.iter().map(|(name, text)| {
        let text = text.split_once("## What it means\n").map_or("", |(_, rest)| rest).replace('\n', " ");
        let end = text.find(". ").map_or(text.len(), |at| at + 1);
        (*name, text[..end].trim().replace('`', ""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a list, the text is cut after one line.
    #[test]
    fn the_meaning_of_an_alert_fits_into_two_lines() {
        for (alert, meaning) in meanings() {
            assert!((10..=150).contains(&meaning.len()) && meaning.ends_with('.'), "{alert}: {meaning}");
        }
    }
}
