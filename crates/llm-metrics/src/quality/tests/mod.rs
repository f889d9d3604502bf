//! Helpers that the tests of the checks share.

mod corpus;
mod outputs;

/// Cuts a text into pieces of these lengths, and the rest.
pub(crate) fn pieces<'t>(text: &'t [u8], lengths: &'t [usize]) -> impl Iterator<Item = &'t [u8]> {
    let mut rest = text;
    let mut lengths = lengths.iter();
    std::iter::from_fn(move || {
        let length = match lengths.next() {
            Some(length) => (*length).min(rest.len()),
            None if rest.is_empty() => return None,
            None => rest.len(),
        };
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some(piece)
    })
}
