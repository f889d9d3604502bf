//! Server-sent events.

use serde_json::Value;

/// Ends a stream of OpenAI's chat completions or completions.
pub(super) const DONE: &[u8] = b"data: [DONE]\n\n";

/// Keeps proxies from closing a silent connection; clients ignore it.
pub(super) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Appends one event to `frame`. JSON as serde writes it has no line breaks, so one `data:` line is enough.
pub(super) fn push_event(frame: &mut Vec<u8>, data: &[u8]) {
    debug_assert!(!data.contains(&b'\n'));
    frame.extend_from_slice(b"data: ");
    frame.extend_from_slice(data);
    frame.extend_from_slice(b"\n\n");
}

/// The same with the event's type in a line before it.
pub(super) fn push_typed_event(frame: &mut Vec<u8>, kind: &str, data: &Value) {
    frame.extend_from_slice(format!("event: {kind}\n").as_bytes());
    push_event(frame, data.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_data_line_and_a_blank_one() {
        let mut frame = Vec::new();
        push_event(&mut frame, br#"{"text":"a\nb"}"#);
        push_event(&mut frame, b"{}");
        assert_eq!(frame, b"data: {\"text\":\"a\\nb\"}\n\ndata: {}\n\n");
    }
}
