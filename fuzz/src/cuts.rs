//! Ways to cut a body into pieces. They depend only on the bytes, so a failure can be reproduced.

/// The body cut in several ways: byte by byte, after each event, after each line, and in pieces of small and middling
/// lengths.
pub fn of(body: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut seed = body
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    vec![
        body.chunks(1).collect(),
        after(body, b"\n\n"),
        after(body, b"\n"),
        random(body, 8, &mut seed),
        random(body, 200, &mut seed),
    ]
}

fn after<'b>(mut body: &'b [u8], mark: &[u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = body.windows(mark.len()).position(|window| window == mark) {
        let (piece, rest) = body.split_at(at + mark.len());
        pieces.push(piece);
        body = rest;
    }
    pieces.push(body);
    pieces
}

fn random<'b>(mut body: &'b [u8], longest: u64, seed: &mut u64) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    while !body.is_empty() {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        // An empty piece now and then: a frame may have no bytes.
        let length = (*seed % (longest + 1)) as usize;
        let (piece, rest) = body.split_at(length.min(body.len()));
        pieces.push(piece);
        body = rest;
    }
    pieces
}
