//! The safetensors container: header length, JSON header, raw little-endian data.

use serde_json::{Map, Value, json};

/// A named tensor, stored as BF16.
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// The bytes of a `.safetensors` file.
pub(super) fn encode(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut start = 0;
    for tensor in tensors {
        let end = start + tensor.values.len() * 2;
        header
            .insert(tensor.name.clone(), json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": [start, end]}));
        start = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut file = Vec::with_capacity(8 + header.len() + start);
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(header);
    for tensor in tensors {
        for value in &tensor.values {
            file.extend(bf16(*value));
        }
    }
    file
}

/// Rounds to nearest, ties to even.
fn bf16(value: f32) -> [u8; 2] {
    let bits = value.to_bits();
    let rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    (rounded as u16).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_offset_of_each_tensor() {
        let tensor = |name: &str, values: Vec<f32>| Tensor { name: name.into(), shape: vec![values.len()], values };
        let file = encode(&[tensor("a", vec![1.0, -2.0]), tensor("b", vec![0.5])]);
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
        assert_eq!(length % 8, 0);
        assert_eq!(header["b"]["data_offsets"], json!([4, 6]));
        assert_eq!(file[8 + length..], [0x80, 0x3f, 0x00, 0xc0, 0x00, 0x3f]);
    }
}
