//! Weights that generate text: the chain's log-probabilities, in the shape of a Qwen3.
//!
//! Each row of the embedding is a one-hot vector, and the final norm scales it to √hidden. The column of the output head for that direction holds the
//! log-probabilities of the next token. Attention and MLP have random weights and fill the KV cache, but their output projections are zero, so they
//! do not change the result.

use super::{chain::Chain, safetensors::Tensor, shape};

/// The logit of a token that never follows.
const NEVER: f32 = -24.0;

pub(super) fn tensors(chain: &Chain, rows: usize) -> Vec<Tensor> {
    let states = chain.states();
    let mut tensors = vec![embedding(&states, rows)];
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for layer in 0..shape::LAYERS {
        tensors.extend(block(layer, &mut noise));
    }
    tensors.push(tensor("model.norm", vec![shape::HIDDEN], vec![1.0; shape::HIDDEN]));
    tensors.push(head(chain, &states, rows));
    tensors
}

fn tensor(name: &str, shape: Vec<usize>, values: Vec<f32>) -> Tensor {
    Tensor { name: format!("{name}.weight"), shape, values }
}

/// A token outside the corpus shares the state of another token, so that the model can answer every prompt.
fn embedding(states: &[usize], rows: usize) -> Tensor {
    let mut values = vec![0.0; rows * shape::HIDDEN];
    for token in 0..rows {
        let state = states.iter().position(|&state| state == token).unwrap_or(token % states.len());
        values[token * shape::HIDDEN + state] = 1.0;
    }
    tensor("model.embed_tokens", vec![rows, shape::HIDDEN], values)
}

fn head(chain: &Chain, states: &[usize], rows: usize) -> Tensor {
    let scale = (shape::HIDDEN as f32).sqrt();
    let mut values = vec![NEVER / scale; rows * shape::HIDDEN];
    for (column, &state) in states.iter().enumerate() {
        for (token, log_probability) in chain.log_probabilities(state) {
            values[token * shape::HIDDEN + column] = log_probability / scale;
        }
    }
    tensor("lm_head", vec![rows, shape::HIDDEN], values)
}

fn block(layer: usize, noise: &mut Noise) -> Vec<Tensor> {
    use shape::{HEAD_DIM, HEADS, HIDDEN, INTERMEDIATE, KV_HEADS};
    let name = |part: &str| format!("model.layers.{layer}.{part}");
    let ones = |part: &str, width: usize| tensor(&name(part), vec![width], vec![1.0; width]);
    let mut matrix = |part: &str, output: usize, input: usize, strength: f32| {
        tensor(&name(part), vec![output, input], (0..output * input).map(|_| noise.next() * strength).collect())
    };
    vec![
        ones("input_layernorm", HIDDEN),
        ones("post_attention_layernorm", HIDDEN),
        ones("self_attn.q_norm", HEAD_DIM),
        ones("self_attn.k_norm", HEAD_DIM),
        matrix("self_attn.q_proj", HEADS * HEAD_DIM, HIDDEN, 0.2),
        matrix("self_attn.k_proj", KV_HEADS * HEAD_DIM, HIDDEN, 0.2),
        matrix("self_attn.v_proj", KV_HEADS * HEAD_DIM, HIDDEN, 0.2),
        matrix("self_attn.o_proj", HIDDEN, HEADS * HEAD_DIM, 0.0),
        matrix("mlp.gate_proj", INTERMEDIATE, HIDDEN, 0.2),
        matrix("mlp.up_proj", INTERMEDIATE, HIDDEN, 0.2),
        matrix("mlp.down_proj", HIDDEN, INTERMEDIATE, 0.0),
    ]
}

/// xorshift64: the same pseudo-random weights on every machine.
struct Noise(u64);

impl Noise {
    /// Between -0.5 and 0.5.
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }
}
