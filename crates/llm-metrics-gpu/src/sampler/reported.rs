//! Remembers which messages were already logged, so that each is logged once.

use std::mem;

use crate::source::SourceError;

#[derive(Default)]
pub(super) struct Reported {
    down: Option<SourceError>,
    selection: Option<String>,
    denied: bool,
}

impl Reported {
    /// The driver works.
    pub(super) fn up(&mut self, gpus: usize, missing: usize) {
        self.down = None;
        if missing == 0 {
            tracing::info!(gpus, "collecting GPU metrics");
        } else {
            tracing::warn!(gpus, missing, "collecting GPU metrics; some GPUs do not answer");
        }
    }

    pub(super) fn down(&mut self, error: &SourceError, worked: bool) {
        let changed = self.down.as_ref().map(mem::discriminant) != Some(mem::discriminant(error));
        if changed && !worked && matches!(error, SourceError::NoLibrary { .. }) {
            tracing::info!(%error, "no GPU metrics for now; a driver will be used when one appears");
        } else if changed {
            tracing::warn!(%error, "no GPU metrics for now; trying again from time to time");
        }
        self.down = Some(error.clone());
    }

    /// A setting does not have the intended effect.
    pub(super) fn selection(&mut self, warning: String) {
        if self.selection.as_ref() != Some(&warning) {
            tracing::warn!("{warning}");
            self.selection = Some(warning);
        }
    }

    pub(super) fn denied(&mut self, gpus: usize) {
        if !mem::replace(&mut self.denied, true) {
            tracing::warn!(
                gpus,
                "no permission to read these GPUs; check the permissions of the devices and the container"
            );
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::tests::support::logged;

    /// The level and the beginning of a log message.
    fn said(what: impl FnOnce(&mut Reported)) -> Vec<String> {
        let lines = logged(|| what(&mut Reported::default()));
        lines.iter().map(|line| line.split([';', '(', '=']).next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_recovery_is_logged_with_whether_it_is_complete() {
        assert_eq!(said(|reported| reported.up(2, 0)), ["INFO collecting GPU metrics gpus"]);
        assert_eq!(said(|reported| reported.up(2, 1)), ["WARN collecting GPU metrics"]);
    }

    #[test]
    fn a_failure_is_logged_once_until_it_changes_or_has_ended() {
        let missing = SourceError::NoLibrary { detail: "a".into() };
        let other = SourceError::NoLibrary { detail: "b".into() };
        let (info, warning) = ("INFO no GPU metrics for now", "WARN no GPU metrics for now");
        let down = |errors: &'static [SourceError], worked| {
            said(move |reported| errors.iter().for_each(|error| reported.down(error, worked)))
        };
        assert_eq!(down(&[SourceError::AllLost, SourceError::AllLost], false), [warning]);
        assert_eq!(down(&[SourceError::AllLost, SourceError::VersionMismatch], false), [warning, warning]);
        let absent = |worked| {
            said(|reported| {
                reported.down(&missing, worked);
                reported.down(&other, worked);
                reported.up(1, 0);
                reported.down(&missing, worked);
            })
        };
        let up = "INFO collecting GPU metrics gpus";
        assert_eq!(absent(false), [info, up, info], "most machines have none");
        assert_eq!(absent(true), [warning, up, warning], "it was there");
    }

    #[test]
    fn an_unmet_setting_is_logged_once() {
        let selections = |texts: &'static [&str]| {
            said(move |reported| texts.iter().for_each(|text| reported.selection((*text).to_owned())))
        };
        assert_eq!(selections(&["a", "a", "b", "b", "a"]), ["WARN a", "WARN b", "WARN a"]);
    }

    #[test]
    fn a_missing_permission_is_logged_once() {
        let denied = said(|reported| (1..4).for_each(|gpus| reported.denied(gpus)));
        assert_eq!(denied, ["WARN no permission to read these GPUs"]);
    }
}
