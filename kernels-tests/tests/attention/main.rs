//! Tests of the attention kernels, against dense float64 attention with whole matrices of scores.
mod cache_append;
mod decode;
mod forward;
mod identity_pull;
mod key_value_grad;
mod query_grad;
mod rotary;

use efface::kernels::attention::{Heads, tiles};
use kernels_tests::{Random, wide};

/// Odd and even head sizes for every permutation, with and without groups: heads, kv heads, head_dim.
const SHAPES: [(usize, usize, usize); 7] =
    [(6, 2, 7), (3, 3, 10), (2, 1, 64), (2, 1, 80), (1, 1, 96), (2, 2, 128), (2, 1, 201)];

/// One launch's inputs, and what dense attention makes of them.
struct Case {
    heads: Heads,
    scale: f32,
    tokens: usize,
    tiles: Vec<u32>,
    qkv: Vec<f32>,
    d_out: Vec<f32>,
    want: Attention,
}

/// Dense attention's results.
struct Attention {
    out: Vec<f64>,
    log_sums: Vec<f64>,
    row_dots: Vec<f64>,
    d_qkv: Vec<f64>,
    /// Of each number of `d_qkv` the sum of its terms' absolute values: clear winners of a softmax make dP and its mean nearly
    /// alike, and their difference small beside both.
    d_qkv_sizes: Vec<f64>,
}

impl Case {
    fn new(random: &mut Random, shape: (usize, usize, usize)) -> Self {
        let (heads, kv_heads, head_dim) = shape;
        let heads = Heads { heads, kv_heads, head_dim };
        let samples = random.size(1, 4);
        let tokens = samples + random.size(20, 110);
        let offsets = random.offsets(samples, tokens);
        // Queries and keys large enough for the softmax to have clear winners.
        let qkv: Vec<f32> = random.values(tokens * heads.qkv_width()).iter().map(|v| 2.0 * v).collect();
        let d_out = random.values(tokens * heads.width());
        let scale = 1.0 / (head_dim as f32).sqrt();
        let want = dense(&heads, scale, &offsets, &wide(&qkv), &wide(&d_out));
        Case { heads, scale, tokens, tiles: tiles(&offsets), qkv, d_out, want }
    }

    /// Float32 values of float64 results, as inputs of a later kernel.
    fn narrow(values: &[f64]) -> Vec<f32> {
        values.iter().map(|v| *v as f32).collect()
    }

    /// The columns of the queries (or of the keys and values) of every row of a joint buffer.
    fn columns<T: Copy>(&self, joint: &[T], queries: bool) -> Vec<T> {
        let cut = self.heads.heads * self.heads.head_dim;
        joint
            .chunks(self.heads.qkv_width())
            .flat_map(|row| if queries { row[..cut].to_vec() } else { row[cut..].to_vec() })
            .collect()
    }
}

/// For each sample and head: S = scale Q Kᵀ, P = softmax over the keys up to the query's, O = P V; then dV = Pᵀ dO,
/// dP = dO Vᵀ, dS = P ⊙ (dP - (P ⊙ dP) 1), dQ = scale dS K and dK = scale dSᵀ Q.
fn dense(heads: &Heads, scale: f32, offsets: &[u32], qkv: &[f64], d_out: &[f64]) -> Attention {
    let Heads { heads, kv_heads, head_dim } = *heads;
    let (joint, width, scale) = ((heads + 2 * kv_heads) * head_dim, heads * head_dim, f64::from(scale));
    let tokens = d_out.len() / width;
    let mut result = Attention {
        out: vec![0.0; tokens * width],
        log_sums: vec![0.0; tokens * heads],
        row_dots: vec![0.0; tokens * heads],
        d_qkv: vec![0.0; tokens * joint],
        d_qkv_sizes: vec![0.0; tokens * joint],
    };
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for sample in offsets.windows(2).map(|pair| pair[0] as usize..pair[1] as usize) {
        for head in 0..heads {
            let kv_head = head / (heads / kv_heads);
            let q = |t: usize| t * joint + head * head_dim;
            let k = |t: usize| t * joint + (heads + kv_head) * head_dim;
            let v = |t: usize| t * joint + (heads + kv_heads + kv_head) * head_dim;
            let o = |t: usize| t * width + head * head_dim;
            for t in sample.clone() {
                let seen = sample.start..t + 1;
                let at = |start: usize| start..start + head_dim;
                let exponentials: Vec<f64> =
                    seen.clone().map(|s| (scale * product(&qkv[at(q(t))], &qkv[at(k(s))])).exp()).collect();
                let total: f64 = exponentials.iter().sum();
                let p: Vec<f64> = exponentials.iter().map(|e| e / total).collect();
                let dp: Vec<f64> = seen.clone().map(|s| product(&d_out[at(o(t))], &qkv[at(v(s))])).collect();
                let mean = product(&p, &dp);
                result.log_sums[t * heads + head] = total.ln();
                result.row_dots[t * heads + head] = mean;
                for (n, s) in seen.enumerate() {
                    let ds = p[n] * (dp[n] - mean);
                    let ds_size = p[n] * (dp[n].abs() + mean.abs());
                    for c in 0..head_dim {
                        result.out[o(t) + c] += p[n] * qkv[v(s) + c];
                        result.d_qkv[v(s) + c] += p[n] * d_out[o(t) + c];
                        result.d_qkv[q(t) + c] += scale * ds * qkv[k(s) + c];
                        result.d_qkv[k(s) + c] += scale * ds * qkv[q(t) + c];
                        result.d_qkv_sizes[v(s) + c] += p[n] * d_out[o(t) + c].abs();
                        result.d_qkv_sizes[q(t) + c] += scale * ds_size * qkv[k(s) + c].abs();
                        result.d_qkv_sizes[k(s) + c] += scale * ds_size * qkv[q(t) + c].abs();
                    }
                }
            }
        }
    }
    result
}
