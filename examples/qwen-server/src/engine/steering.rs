//! Request fields that the engine ignores: `logit_bias`, `ignore_eos` and `min_tokens`.

use std::sync::Arc;

use mistralrs::{Device, Tensor};

/// Far below every real logit, yet finite: if a grammar only allows the end of the text, the text ends. (Minus infinity would leave no token at all,
/// and 0.8.1 would fail the whole batch's step.)
const BANNED: f32 = -1e6;

/// Changes to the logits of one request.
#[derive(Default)]
pub(crate) struct Steering {
    /// Added to the logits of these tokens.
    pub(crate) bias: Vec<(u32, f32)>,
    /// The minimum number of tokens of the text.
    pub(crate) min_tokens: u64,
    /// The model's end-of-text tokens.
    pub(crate) ends: Arc<[u32]>,
}

impl Steering {
    /// The logits for the token with this index. Never fails: a failing logits processor would fail the batch.
    pub(super) fn apply(&self, logits: &Tensor, index: u64) -> Tensor {
        let ends = if index < self.min_tokens { &self.ends[..] } else { &[] };
        if self.bias.is_empty() && ends.is_empty() {
            return logits.clone();
        }
        self.steered(logits, ends).unwrap_or_else(|_| logits.clone())
    }

    fn steered(&self, logits: &Tensor, ends: &[u32]) -> mistralrs::Result<Tensor> {
        let mut values: Vec<f32> = logits.to_vec1()?;
        for (token, change) in self.bias.iter().copied().chain(ends.iter().map(|end| (*end, BANNED))) {
            if let Some(value) = values.get_mut(token as usize) {
                *value += change;
            }
        }
        let length = values.len();
        Tensor::from_vec(values, length, &Device::Cpu)?.to_device(logits.device())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steered(steering: &Steering, index: u64) -> Vec<f32> {
        let logits = Tensor::from_vec(vec![1f32, 2.0, 3.0], 3, &Device::Cpu).unwrap();
        steering.apply(&logits, index).to_vec1().unwrap()
    }

    #[test]
    fn bias_is_added_and_unknown_tokens_are_ignored() {
        let steering = Steering { bias: vec![(1, 10.0), (99, 5.0)], ..Steering::default() };
        assert_eq!(steered(&steering, 0), [1.0, 12.0, 3.0]);
    }

    #[test]
    fn the_end_is_banned_until_the_minimum_is_reached() {
        let steering = Steering { min_tokens: 2, ends: Arc::new([2]), ..Steering::default() };
        assert!(steered(&steering, 1)[2] < -1e5);
        assert_eq!(steered(&steering, 2)[2], 3.0);
    }
}
