//! The meaning of codes and types of errors inside an answer.
//!
//! The table is closed and documented in `docs/METRICS.md`. With a word that is not in it, the error counts as `stream_error`, or like a 5xx if the
//! answer is not streamed.

use super::json::Scalar;
use crate::vocabulary::{ERROR_WORDS as WORDS, ErrorType};

/// The error type for a code, a type or a status. A 500 or a 502 only says that it is an error.
pub(super) fn error_type(value: Scalar<'_>) -> Option<ErrorType> {
    match value {
        Scalar::Number(_) => by_status(value.integer()?),
        Scalar::String(word) => {
            let digits = Scalar::Number(word).integer();
            digits.map_or_else(|| by_word(word), by_status)
        }
        _ => None,
    }
}

fn by_status(status: u64) -> Option<ErrorType> {
    Some(match status {
        401 | 403 | 407 => ErrorType::Unauthorized,
        404 | 410 => ErrorType::NotFound,
        408 | 504 | 524 => ErrorType::Timeout,
        429 => ErrorType::RateLimited,
        503 | 529 => ErrorType::Overloaded,
        400..=498 => ErrorType::InvalidRequest,
        _ => return None,
    })
}

fn by_word(word: &[u8]) -> Option<ErrorType> {
    let known = |known: &&&str| letters(known.as_bytes()).eq(letters(word));
    WORDS.iter().find(|(_, words)| words.iter().any(|word| known(&word))).map(|(meaning, _)| *meaning)
}

/// `BadRequestError`, `bad_request_error` and `bad request error` are the same word.
fn letters(word: &[u8]) -> impl Iterator<Item = u8> + '_ {
    word.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_types_classify_an_error() {
        for (value, expected) in [
            (Scalar::Number(b"429"), Some(ErrorType::RateLimited)),
            (Scalar::Number(b"400"), Some(ErrorType::InvalidRequest)),
            (Scalar::Number(b"500"), None),
            (Scalar::Number(b"502"), None),
            (Scalar::Number(b"1003"), None),
            (Scalar::Number(b"-1"), None),
            (Scalar::Number(b"3:9"), None),
            (Scalar::Number(b"401"), Some(ErrorType::Unauthorized)),
            (Scalar::Number(b"404"), Some(ErrorType::NotFound)),
            (Scalar::Number(b"504"), Some(ErrorType::Timeout)),
            (Scalar::Number(b"499"), None),
            (Scalar::String(b"529"), Some(ErrorType::Overloaded)),
            (Scalar::String(b"overloaded_error"), Some(ErrorType::Overloaded)),
            (Scalar::String(b"BadRequestError"), Some(ErrorType::InvalidRequest)),
            (Scalar::String(b"Bad Request"), Some(ErrorType::InvalidRequest)),
            (Scalar::String(b"RESOURCE_EXHAUSTED"), Some(ErrorType::RateLimited)),
            (Scalar::String(b"server_error"), None),
            (Scalar::String(b"InternalServerError"), None),
            (Scalar::String(b""), None),
            (Scalar::Null, None),
            (Scalar::Other, None),
        ] {
            assert_eq!(error_type(value), expected, "{value:?}");
        }
    }

    #[test]
    fn a_word_means_one_thing() {
        let mut words: Vec<Vec<u8>> =
            WORDS.iter().flat_map(|(_, words)| *words).map(|word| letters(word.as_bytes()).collect()).collect();
        let all = words.len();
        words.sort();
        words.dedup();
        assert_eq!(words.len(), all);
    }
}
