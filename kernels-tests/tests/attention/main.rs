//! Tests of attention. The formula stands here once, in float64; gradients are differences of it.
mod cache_append;
mod decode;
mod forward;
mod key_value_grad;
mod query_grad;
mod rotary;

use efface::device::{Buffer, Device};
use efface::kernels::attention::{self as kernels, Heads, Tiles, tiles};
use kernels_tests::{Random, wide};

/// A random case: heads, samples, joint rows and the gradient at the output.
struct Case {
    heads: Heads,
    scale: f32,
    offsets: Vec<u32>,
    qkv: Vec<f32>,
    d_out: Vec<f32>,
}

impl Case {
    fn new(random: &mut Random, longest: usize, widest: usize) -> Self {
        let kv_heads = random.size(1, 3);
        let heads = Heads { heads: kv_heads * random.size(1, 3), kv_heads, head_dim: random.size(1, widest) };
        let mut offsets = vec![0];
        for _ in 0..random.size(1, 3) {
            offsets.push(offsets[offsets.len() - 1] + random.size(1, longest) as u32);
        }
        let tokens = offsets[offsets.len() - 1] as usize;
        let qkv = random.values(tokens * heads.qkv_width()).iter().map(|v| 2.0 * v).collect();
        let scale = 1.0 / (heads.head_dim as f32).sqrt();
        Case { heads, scale, offsets, qkv, d_out: random.values(tokens * heads.width()) }
    }

    fn tokens(&self) -> usize {
        self.offsets[self.offsets.len() - 1] as usize
    }

    /// The output and the log-sum-exp of the scores, by definition.
    fn attend(&self, qkv: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (h, width, dim) = (self.heads, self.heads.qkv_width(), self.heads.head_dim);
        let (mut out, mut log_sums) = (Vec::new(), Vec::new());
        for ends in self.offsets.windows(2) {
            for token in ends[0] as usize..ends[1] as usize {
                for head in 0..h.heads {
                    let kv = head * h.kv_heads / h.heads * dim;
                    let row = |t: usize, column: usize| &qkv[t * width + column..t * width + column + dim];
                    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                    let query = row(token, head * dim);
                    let keys = ends[0] as usize..=token;
                    let weights: Vec<f64> = keys
                        .clone()
                        .map(|key| (dot(query, row(key, h.heads * dim + kv)) * f64::from(self.scale)).exp())
                        .collect();
                    let sum: f64 = weights.iter().sum();
                    log_sums.push(sum.ln());
                    for d in 0..dim {
                        let value = |key: usize| qkv[key * width + (h.heads + h.kv_heads) * dim + kv + d];
                        out.push(keys.clone().zip(&weights).map(|(key, w)| w * value(key)).sum::<f64>() / sum);
                    }
                }
            }
        }
        (out, log_sums)
    }

    /// The gradient of d_out·out in some columns of the joint rows, by differences; zero elsewhere.
    fn gradient(&self, columns: std::ops::Range<usize>) -> Vec<f64> {
        let h = 1e-3;
        let (qkv, d_out) = (wide(&self.qkv), wide(&self.d_out));
        let at = |i: usize, steps: f64| -> f64 {
            let mut moved = qkv.clone();
            moved[i] += steps * h;
            self.attend(&moved).0.iter().zip(&d_out).map(|(y, d)| y * d).sum()
        };
        let of = |i: usize| {
            if !columns.contains(&(i % self.heads.qkv_width())) {
                return 0.0;
            }
            (8.0 * (at(i, 1.0) - at(i, -1.0)) - (at(i, 2.0) - at(i, -2.0))) / (12.0 * h)
        };
        (0..qkv.len()).map(of).collect()
    }

    /// Runs forward and the gradient at the queries; returns the buffers that the next kernel takes.
    fn run(&self, device: &Device) -> Run {
        let words = tiles(&self.offsets);
        let [qkv, d_out] = [&self.qkv, &self.d_out].map(|v| device.upload_new(v).unwrap());
        let of = |width: usize| device.allocate((self.tokens() * width * 4) as u64).unwrap();
        let (h, tokens) = (self.heads, self.tokens());
        let run = Run {
            tiles: device.upload_new(&words).unwrap(),
            count: words.len() / 4,
            out: of(h.width()),
            log_sums: of(h.heads),
            row_dots: of(h.heads),
            d_qkv: of(h.qkv_width()),
            qkv,
            d_out,
        };
        kernels::forward::run(device, h, self.scale, tokens, run.tiles(), &run.qkv, &run.out, &run.log_sums).unwrap();
        let Run { qkv, out, d_out, log_sums, row_dots, d_qkv, .. } = &run;
        kernels::query_grad::run(
            device,
            h,
            self.scale,
            tokens,
            run.tiles(),
            qkv,
            out,
            d_out,
            log_sums,
            row_dots,
            d_qkv,
        )
        .unwrap();
        run
    }
}

/// A case on a device.
struct Run {
    tiles: Buffer,
    count: usize,
    qkv: Buffer,
    out: Buffer,
    d_out: Buffer,
    log_sums: Buffer,
    row_dots: Buffer,
    d_qkv: Buffer,
}

impl Run {
    fn tiles(&self) -> Tiles<'_> {
        Tiles { buffer: &self.tiles, count: self.count }
    }
}
