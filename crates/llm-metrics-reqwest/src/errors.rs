//! Which error type an error of reqwest counts under.

use std::error::Error;

use llm_metrics::{
    ErrorType,
    layer::{ClassifyError, TowerErrors},
};

/// Recognizes the errors of reqwest, anywhere in an error's chain of sources.
///
/// | error | counts as |
/// | --- | --- |
/// | no connection: refused, unknown host, TLS failure, connect timeout | [`UpstreamUnavailable`](ErrorType::UpstreamUnavailable) |
/// | a timeout after that | [`Timeout`](ErrorType::Timeout) |
/// | the request could not be built or redirected; a middleware failed | [`Internal`](ErrorType::Internal) |
/// | timeouts and load shedding of tower | as in [`TowerErrors`] |
/// | any other | [`UpstreamError`](ErrorType::UpstreamError) |
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "users write it as a value")]
pub struct ReqwestErrors;

/// The number of sources of an error that are checked.
const CAUSES: usize = 32;

impl ClassifyError<reqwest::Error> for ReqwestErrors {
    fn classify(&self, error: &reqwest::Error, _proxy: bool) -> ErrorType {
        if error.is_connect() {
            ErrorType::UpstreamUnavailable
        } else if error.is_timeout() {
            ErrorType::Timeout
        } else if error.is_builder() || error.is_redirect() {
            ErrorType::Internal
        } else {
            ErrorType::UpstreamError
        }
    }
}

impl ClassifyError<Box<dyn Error + Send + Sync>> for ReqwestErrors {
    fn classify(&self, error: &Box<dyn Error + Send + Sync>, proxy: bool) -> ErrorType {
        match reqwest_error(&**error) {
            Some(error) => self.classify(error, proxy),
            None => TowerErrors.classify(error, proxy),
        }
    }
}

#[cfg(feature = "middleware")]
#[cfg_attr(docsrs, doc(cfg(feature = "middleware")))]
impl ClassifyError<reqwest_middleware::Error> for ReqwestErrors {
    fn classify(&self, error: &reqwest_middleware::Error, proxy: bool) -> ErrorType {
        let cause: &(dyn Error + 'static) = match error {
            reqwest_middleware::Error::Reqwest(error) => return self.classify(error, proxy),
            reqwest_middleware::Error::Middleware(error) => {
                let error: &(dyn Error + Send + Sync + 'static) = error.as_ref();
                error
            }
        };
        reqwest_error(cause).map_or(ErrorType::Internal, |error| self.classify(error, proxy))
    }
}

fn reqwest_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a reqwest::Error> {
    let causes = std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (**error).source());
    causes.take(CAUSES).find_map(|error| error.downcast_ref())
}
