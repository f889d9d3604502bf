//! The queries of a page.

/// The queries in the `promql` blocks of a page, which are separated by empty lines.
pub(crate) fn queries(page: &str) -> Vec<&str> {
    let blocks = page.split("```promql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(|block| block.trim().split("\n\n")).collect()
}
