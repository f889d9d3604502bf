//! The queries of a page.

/// The queries in a page's `promql` blocks, which empty lines keep apart.
pub(crate) fn queries(page: &str) -> Vec<&str> {
    let blocks = page.split("```promql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(|block| block.trim().split("\n\n")).collect()
}
