//! Bytes that two events share, with one value among them that may differ.

use super::json::Skipped;
use super::skip::end_of_plain_text;

/// A value that may differ between events, and its place in the known bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct VaryingValue {
    pub(super) at: u16,
    pub(super) what: Skipped,
}

/// The length of the known bytes, which are stored elsewhere, and the place of a value that may differ.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pattern {
    pub(super) length: u16,
    pub(super) varying: Option<VaryingValue>,
}

impl Pattern {
    /// The rest of `data` after the `known` bytes, with any value in the place of the variable one; `None` if it does not begin with them.
    #[inline(always)]
    pub(super) fn strip<'b>(self, known: &[u8], data: &'b [u8]) -> Option<&'b [u8]> {
        match self.varying {
            None => data.strip_prefix(known),
            Some(varying) => varying.strip(known, data),
        }
    }

    /// An object may be in that place. Its end is not searched: see [`is`](Self::is).
    #[inline]
    pub(super) fn may_be_long(self) -> bool {
        matches!(self.varying, Some(VaryingValue { what: Skipped::Object, .. }))
    }

    /// Whether `rest`, the end of an event, consists of the `known` bytes, with any value in the place of the variable one.
    ///
    /// The variable value may be an object. It cannot have ended early, because after the end of a member's value comes `}` or `,"`, and here each
    /// closing brace but the last is followed by `]` or `,{`, or by a quote and so is part of a string. It cannot continue either: the quotes of the
    /// known end are paired, so the end begins outside a string, otherwise the line would end inside one; and its brackets close exactly the
    /// containers around the object. This holds for valid JSON: an invalid line may remain unnoticed.
    #[inline]
    pub(super) fn is(self, known: &[u8], rest: &[u8]) -> bool {
        let Some(VaryingValue { at, what: Skipped::Object }) = self.varying else {
            return self.strip(known, rest).is_some_and(<[u8]>::is_empty);
        };
        let Some((before, after)) = known.split_at_checked(usize::from(at)) else { return false };
        match rest.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)) {
            Some([b'{', members @ .., b'}']) => !could_end_in(members),
            _ => false,
        }
    }
}

impl VaryingValue {
    /// The value must be shown to be complete, because only then the reader would skip it and reach the same end. A string is complete if it contains
    /// neither a quote nor a backslash, a number if it consists of digits and is followed by a known byte. The end of an object is not searched.
    fn strip<'b>(self, known: &[u8], data: &'b [u8]) -> Option<&'b [u8]> {
        let (before, after) = known.split_at_checked(usize::from(self.at))?;
        let value = data.strip_prefix(before)?;
        let length = match self.what {
            Skipped::Number => value.iter().position(|byte| !byte.is_ascii_digit()).filter(|length| *length > 0)?,
            Skipped::Padding => {
                let text = value.strip_prefix(b"\"")?;
                let length = end_of_plain_text(text).filter(|length| text[*length] == b'"')?;
                length + 2
            }
            _ => return None,
        };
        value[length..].strip_prefix(after)
    }
}

/// Whether an object with these members can have ended among them. Without branches, so that it is vectorized: searching for the braces was measured
/// to be slower.
#[inline]
fn could_end_in(members: &[u8]) -> bool {
    let [.., before, last] = members else { return true };
    let triples = members.iter().zip(&members[1..]).zip(&members[2..]);
    let early = triples.fold(0, |early, ((byte, next), after)| {
        let goes_on =
            u8::from(*next == b']') | u8::from(*next == b'"') | (u8::from(*next == b',') & u8::from(*after == b'{'));
        early | (u8::from(*byte == b'}') & (goes_on ^ 1))
    });
    early != 0 || *last == b'}' || (*before == b'}' && !matches!(last, b']' | b'"'))
}

#[cfg(test)]
mod tests {
    use super::could_end_in;

    #[test]
    fn an_object_can_have_ended_after_a_brace_that_nothing_shows_to_be_an_inner_one() {
        for (members, expected) in [
            (r#""a":1"#, false),
            (r#""a":[{"b":1}]"#, false),
            (r#""a":[{"b":1},{"c":1}]"#, false),
            (r#""a":"}""#, false),
            (r#""a":"}","b":1"#, false),
            (r#""a":[{"b":"}"}],"c":1"#, false),
            ("", true),
            ("1", true),
            (r#""a":1},"b":{"c":1"#, true),
            (r#""a":1}, {"c":1"#, true),
            (r#""a":1}x{"c":1"#, true),
            (r#""a":1}x}x1"#, true),
            (r#""a":"}}""#, true),
            (r#""a":1}x"#, true),
            (r#""a":{}"#, true),
        ] {
            assert_eq!(could_end_in(members.as_bytes()), expected, "{members}");
        }
    }
}
