//! Which error type an error of the inner service counts under.

use crate::{inference::server_error, vocabulary::ErrorType};

/// Maps an error of the inner service to an error type. Any `Fn(&E) -> ErrorType` is a classifier. Implement the trait if the type depends on
/// `proxy`.
///
/// The trait is not sealed: methods that are added later will have a default.
pub trait ClassifyError<E> {
    /// The type under which `error` counts. `proxy` is whether the service was declared a proxy.
    fn classify(&self, error: &E, proxy: bool) -> ErrorType;

    /// Whether [`classify`](Self::classify) knows this error. If it does not, the error counts like a 5xx, and the feature `tracing` logs the first of them
    /// at `WARN`.
    fn knows(&self, error: &E) -> bool {
        let _ = error;
        true
    }
}

/// The default: every error is a failure of the server, like a 5xx.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ServerErrors;

impl<E> ClassifyError<E> for ServerErrors {
    fn classify(&self, _error: &E, proxy: bool) -> ErrorType {
        server_error(proxy)
    }

    fn knows(&self, _error: &E) -> bool {
        false
    }
}

/// Recognizes the errors of tower's own layers, anywhere in an error's chain of sources: [`Elapsed`](tower::timeout::error::Elapsed) is a
/// [`Timeout`](ErrorType::Timeout), [`Overloaded`](tower::load_shed::error::Overloaded) is [`Overloaded`](ErrorType::Overloaded). Every other error
/// counts like a 5xx.
///
/// ```
/// use llm_metrics::{LlmMetrics, layer::TowerErrors};
///
/// let layer = LlmMetrics::new().layer().classify_error(TowerErrors);
/// # let _ = layer;
/// ```
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "users write it as a value")]
pub struct TowerErrors;

/// The number of sources of an error that are checked.
#[cfg(feature = "tower")]
const CAUSES: usize = 32;

#[cfg(feature = "tower")]
impl ClassifyError<tower::BoxError> for TowerErrors {
    fn classify(&self, error: &tower::BoxError, proxy: bool) -> ErrorType {
        of_tower(error).unwrap_or_else(|| server_error(proxy))
    }

    fn knows(&self, error: &tower::BoxError) -> bool {
        of_tower(error).is_some()
    }
}

#[cfg(feature = "tower")]
fn of_tower(error: &tower::BoxError) -> Option<ErrorType> {
    let known = |error: &(dyn std::error::Error + 'static)| {
        if error.is::<tower::timeout::error::Elapsed>() {
            Some(ErrorType::Timeout)
        } else if error.is::<tower::load_shed::error::Overloaded>() {
            Some(ErrorType::Overloaded)
        } else {
            None
        }
    };
    let first: &(dyn std::error::Error + 'static) = &**error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    causes.take(CAUSES).find_map(known)
}

impl<E, F> ClassifyError<E> for F
where
    F: Fn(&E) -> ErrorType,
{
    fn classify(&self, error: &E, _proxy: bool) -> ErrorType {
        self(error)
    }
}
