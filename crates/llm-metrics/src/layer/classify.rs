//! What an error of the inner service means.

use crate::{inference::server_error, vocabulary::ErrorType};

/// Tells what an error of the inner service is. Any `Fn(&E) -> ErrorType` does.
pub trait ClassifyError<E> {
    /// The type under which `error` counts; `proxy` says whether the service was declared a proxy.
    fn classify(&self, error: &E, proxy: bool) -> ErrorType;
}

/// Takes every error for a failure of the server, like a 5xx: the default.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ServerError;

impl<E> ClassifyError<E> for ServerError {
    fn classify(&self, _error: &E, proxy: bool) -> ErrorType {
        server_error(proxy)
    }
}

impl<E, F> ClassifyError<E> for F
where
    F: Fn(&E) -> ErrorType,
{
    fn classify(&self, error: &E, _proxy: bool) -> ErrorType {
        self(error)
    }
}
