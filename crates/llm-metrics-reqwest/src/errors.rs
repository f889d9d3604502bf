//! What an error of reqwest means.

use std::error::Error;

use llm_metrics::{
    ErrorType,
    layer::{ClassifyError, TowerErrors},
};

/// Knows the errors of reqwest, wherever they stand in the chain of an error's causes.
///
/// | error | counts as |
/// | --- | --- |
/// | no connection: refused, no such host, no TLS, not in time | [`UpstreamUnavailable`](ErrorType::UpstreamUnavailable) |
/// | a time-out after that | [`Timeout`](ErrorType::Timeout) |
/// | the request could not be built or redirected; a middleware failed | [`Internal`](ErrorType::Internal) |
/// | time-outs and load shedding of tower | as [`TowerErrors`] says |
/// | any other | [`UpstreamError`](ErrorType::UpstreamError) |
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is written as a value")]
pub struct ReqwestErrors;

/// More causes of an error are not looked at.
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
