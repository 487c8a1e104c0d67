//! Attention over packed samples, its rotary embedding, and decoding. Checked at the first and the last sample, whose
//! attention does not depend on the others.

use std::ops::Range;

use super::super::case::{Accuracy, Case, Data, Prepared, offsets, read_rows, rows_of, wide};
use super::super::shape::Shape;
use super::{SAMPLE, TOLERANCE};
use crate::device::{Buffer, Device};
use crate::kernels::Window;
use crate::kernels::attention::decode::{self, Lengths};
use crate::kernels::attention::{
    Heads, Tiles, cache_append, forward, identity_pull, key_value_grad, query_grad, rotary, tiles,
};
use crate::{Error, Result};

/// Sequences that are decoded at the same time.
const SEQUENCES: usize = 16;

pub(super) fn cases(shape: &'static Shape, tokens: usize, cases: &mut Vec<Case>) {
    let heads = Heads { heads: shape.heads, kv_heads: shape.kv_heads, head_dim: shape.head_dim };
    let problem = format!("{} heads of {}, {} kv", shape.heads, shape.head_dim, shape.kv_heads);
    let what = || (shape.name, problem.clone(), tokens);
    cases.push(Case::new(forward::KERNEL.name, what(), move |d, data| Samples::new(d, data, heads, tokens)?.forward()));
    cases.push(Case::new(query_grad::KERNEL.name, what(), move |d, data| {
        Samples::new(d, data, heads, tokens)?.query_grad()
    }));
    cases.push(Case::new(key_value_grad::KERNEL.name, what(), move |d, data| {
        Samples::new(d, data, heads, tokens)?.key_value_grad()
    }));
    cases.push(Case::new(rotary::KERNEL.name, what(), move |d, data| rotary(d, data, heads, tokens)));
    cases.push(Case::new(cache_append::KERNEL.name, what(), move |d, data| cache_append(d, data, heads, tokens)));
    cases.push(Case::new(identity_pull::KERNEL.name, what(), move |d, data| identity_pull(d, data, heads, tokens)));
    cases.push(Case::new(decode::KERNEL.name, what(), move |d, data| decode(d, data, heads, tokens)));
}

/// Packed samples, with what forward makes of them on the device.
struct Samples {
    device: Device,
    heads: Heads,
    scale: f32,
    tokens: usize,
    words: Vec<u32>,
    /// The first and the last sample.
    checked: Vec<Range<usize>>,
    qkv: Vec<f32>,
    d_out: Vec<f32>,
    on_device: OnDevice,
}

struct OnDevice {
    tiles: Buffer,
    qkv: Buffer,
    d_out: Buffer,
    out: Buffer,
    log_sums: Buffer,
    row_dots: Buffer,
    d_qkv: Buffer,
}

impl Samples {
    fn new(device: &Device, data: &mut Data, heads: Heads, tokens: usize) -> Result<Self> {
        let ends = offsets(tokens, SAMPLE);
        let samples: Vec<Range<usize>> = ends.windows(2).map(|s| s[0] as usize..s[1] as usize).collect();
        let last = samples.len() - 1;
        let checked =
            if last == 0 { vec![samples[0].clone()] } else { vec![samples[0].clone(), samples[last].clone()] };
        let words = tiles(&ends);
        let (qkv, d_out) = (data.values(tokens * heads.qkv_width()), data.values(tokens * heads.width()));
        let floats = |count: usize| device.allocate(count as u64 * 4);
        let on_device = OnDevice {
            tiles: device.upload_new(&words)?,
            qkv: device.upload_new(&qkv)?,
            d_out: device.upload_new(&d_out)?,
            out: floats(tokens * heads.width())?,
            log_sums: floats(tokens * heads.heads)?,
            row_dots: floats(tokens * heads.heads)?,
            d_qkv: floats(tokens * heads.qkv_width())?,
        };
        let scale = 1.0 / (heads.head_dim as f32).sqrt();
        Ok(Samples { device: device.clone(), heads, scale, tokens, words, checked, qkv, d_out, on_device })
    }

    fn launch_forward(&self) -> Result<()> {
        let OnDevice { tiles, qkv, out, log_sums, .. } = &self.on_device;
        let tiles = Tiles::new(tiles, &self.words);
        forward::run(&self.device, self.heads, self.scale, self.tokens, tiles, qkv, out, log_sums)
    }

    fn launch_query_grad(&self) -> Result<()> {
        let OnDevice { tiles, qkv, out, d_out, log_sums, row_dots, d_qkv } = &self.on_device;
        let tiles = Tiles::new(tiles, &self.words);
        query_grad::run(
            &self.device,
            self.heads,
            self.scale,
            self.tokens,
            tiles,
            qkv,
            out,
            d_out,
            log_sums,
            row_dots,
            d_qkv,
        )
    }

    fn launch_key_value_grad(&self) -> Result<()> {
        let OnDevice { tiles, qkv, d_out, log_sums, row_dots, d_qkv, .. } = &self.on_device;
        let tiles = Tiles::new(tiles, &self.words);
        key_value_grad::run(
            &self.device,
            self.heads,
            self.scale,
            self.tokens,
            tiles,
            qkv,
            d_out,
            log_sums,
            row_dots,
            d_qkv,
        )
    }

    /// What float64 makes of the samples that are checked: `(token rows, out, d_qkv)` for each.
    fn references(&self) -> Vec<(Vec<usize>, Vec<f64>, Vec<f64>)> {
        let heads = self.heads;
        let [h, kv, dim] = [heads.heads, heads.kv_heads, heads.head_dim].map(|n| n as u32);
        let reference = |sample: &Range<usize>| {
            let (rows, tokens): (Vec<usize>, usize) = (sample.clone().collect(), sample.len());
            let qkv = rows_of(&self.qkv, heads.qkv_width(), &rows);
            let d_out = rows_of(&self.d_out, heads.width(), &rows);
            let words = tiles(&[0, tokens as u32]);
            let mut out = vec![0.0; tokens * heads.width()];
            let [mut log_sums, mut row_dots] = [vec![0.0; tokens * heads.heads], vec![0.0; tokens * heads.heads]];
            let mut d_qkv = vec![0.0; tokens * heads.qkv_width()];
            let params = forward::Params { heads: h, kv_heads: kv, head_dim: dim, scale: self.scale };
            forward::reference(&params, &words, &qkv, &mut out, &mut log_sums);
            let params = query_grad::Params { heads: h, kv_heads: kv, head_dim: dim, scale: self.scale };
            query_grad::reference(&params, &words, &qkv, &out, &d_out, &log_sums, &mut row_dots, &mut d_qkv);
            let params = key_value_grad::Params { heads: h, kv_heads: kv, head_dim: dim, scale: self.scale };
            key_value_grad::reference(&params, &words, &qkv, &d_out, &log_sums, &row_dots, &mut d_qkv);
            (rows, out, d_qkv)
        };
        self.checked.iter().map(reference).collect()
    }

    fn forward(self) -> Result<Prepared> {
        let [heads, kv_heads, head_dim] =
            [self.heads.heads, self.heads.kv_heads, self.heads.head_dim].map(|n| n as u32);
        let params = forward::Params { heads, kv_heads, head_dim, scale: self.scale };
        let cost = forward::cost(&params, Tiles::new(&self.on_device.tiles, &self.words));
        let shared = std::rc::Rc::new(self);
        let checked = shared.clone();
        let check = move || {
            let (mut got, mut want) = (Vec::new(), Vec::new());
            for (rows, out, _) in checked.references() {
                got.extend(read_rows(&checked.device, &checked.on_device.out, checked.heads.width(), &rows)?);
                want.extend(out);
            }
            Ok(Accuracy::of(&got, &want, TOLERANCE))
        };
        Ok(Prepared::new(cost, move || shared.launch_forward(), check))
    }

    /// The columns of the joint gradient that a kernel is responsible for, beside the same columns in float64.
    fn gradient_columns(&self, columns: Range<usize>) -> Result<Accuracy> {
        let width = self.heads.qkv_width();
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for (rows, _, d_qkv) in self.references() {
            let read = read_rows(&self.device, &self.on_device.d_qkv, width, &rows)?;
            for (all, into) in [(&read, &mut got), (&d_qkv, &mut want)] {
                into.extend(all.chunks_exact(width).flat_map(|row| row[columns.clone()].to_vec()));
            }
        }
        Ok(Accuracy::of(&got, &want, TOLERANCE))
    }

    fn query_grad(self) -> Result<Prepared> {
        self.launch_forward()?;
        let [heads, kv_heads, head_dim] =
            [self.heads.heads, self.heads.kv_heads, self.heads.head_dim].map(|n| n as u32);
        let params = query_grad::Params { heads, kv_heads, head_dim, scale: self.scale };
        let cost = query_grad::cost(&params, Tiles::new(&self.on_device.tiles, &self.words));
        let shared = std::rc::Rc::new(self);
        let checked = shared.clone();
        let check = move || checked.gradient_columns(0..checked.heads.k_offset());
        Ok(Prepared::new(cost, move || shared.launch_query_grad(), check))
    }

    fn key_value_grad(self) -> Result<Prepared> {
        self.launch_forward()?;
        self.launch_query_grad()?;
        let [heads, kv_heads, head_dim] =
            [self.heads.heads, self.heads.kv_heads, self.heads.head_dim].map(|n| n as u32);
        let params = key_value_grad::Params { heads, kv_heads, head_dim, scale: self.scale };
        let cost = key_value_grad::cost(&params, Tiles::new(&self.on_device.tiles, &self.words));
        let shared = std::rc::Rc::new(self);
        let checked = shared.clone();
        let check = move || checked.gradient_columns(checked.heads.k_offset()..checked.heads.qkv_width());
        Ok(Prepared::new(cost, move || shared.launch_key_value_grad(), check))
    }
}

fn rotary(device: &Device, data: &mut Data, heads: Heads, tokens: usize) -> Result<Prepared> {
    let (width, turned) = (heads.qkv_width(), heads.heads + heads.kv_heads);
    let (x, some) = (data.values(tokens * width), data.picks(tokens, 8));
    let table: Vec<f32> = (0..SAMPLE * (heads.head_dim / 2))
        .flat_map(|i| [(i as f64 * 0.37).cos() as f32, (i as f64 * 0.37).sin() as f32])
        .collect();
    let positions: Vec<u32> = (0..tokens).map(|t| (t % SAMPLE) as u32).collect();
    let (device, bt) = (device.clone(), device.upload_new(&table)?);
    let (bp, bx) = (device.upload_new(&positions)?, device.upload_new(&x)?);
    let (checked_on, checked) = (device.clone(), bx.clone());
    let params = move |tokens: usize| rotary::Params {
        tokens: tokens as u32,
        heads: turned as u32,
        head_dim: heads.head_dim as u32,
        x_stride: width as u32,
        x_offset: 0,
        inverse: 0,
    };
    let check = move || {
        let mut want = rows_of(&x, width, &some);
        let places: Vec<u32> = some.iter().map(|t| positions[*t]).collect();
        rotary::reference(&params(some.len()), &wide(&table), &places, &mut want);
        Ok(Accuracy::of(&read_rows(&checked_on, &checked, width, &some)?, &want, TOLERANCE))
    };
    let launch = move || rotary::run(&device, tokens, turned, heads.head_dim, &bt, &bp, Window::all(&bx, width), false);
    Ok(Prepared::new(rotary::cost(&params(tokens)), launch, check))
}

/// Every head pulled half of the way, in one variant for each sample.
fn identity_pull(device: &Device, data: &mut Data, heads: Heads, tokens: usize) -> Result<Prepared> {
    let (width, joint) = (heads.width(), heads.qkv_width());
    let (qkv, mixed, some) = (data.values(tokens * joint), data.values(tokens * width), data.picks(tokens, 8));
    let knobs = vec![0.5f32; tokens.div_ceil(SAMPLE) * heads.heads];
    let keys: Vec<u32> = (0..tokens).flat_map(|t| [(t / SAMPLE) as u32, (t % SAMPLE) as u32]).collect();
    let (device, bk, bn) = (device.clone(), device.upload_new(&knobs)?, device.upload_new(&keys)?);
    let [bq, bm] = [device.upload_new(&qkv)?, device.upload_new(&mixed)?];
    let (checked_on, checked) = (device.clone(), bm.clone());
    let params = move |tokens: usize| identity_pull::Params {
        tokens: tokens as u32,
        heads: heads.heads as u32,
        head_dim: heads.head_dim as u32,
        group: (heads.heads / heads.kv_heads) as u32,
        stride: joint as u32,
        v_offset: heads.v_offset() as u32,
        samples: 1,
    };
    let check = move || {
        let mut want = rows_of(&mixed, width, &some);
        let own: Vec<u32> = some.iter().flat_map(|t| [keys[2 * t], keys[2 * t + 1]]).collect();
        identity_pull::reference(&params(some.len()), &wide(&knobs), &own, &rows_of(&qkv, joint, &some), &mut want);
        Ok(Accuracy::of(&read_rows(&checked_on, &checked, width, &some)?, &want, TOLERANCE))
    };
    let launch = move || identity_pull::run(&device, heads, tokens, 1, (&bk, &bn), &bq, &bm);
    Ok(Prepared::new(identity_pull::cost(&params(tokens)), launch, check))
}

fn cache_append(device: &Device, data: &mut Data, heads: Heads, tokens: usize) -> Result<Prepared> {
    let (width, kv_width) = (heads.qkv_width(), heads.kv_width());
    let qkv = data.values(tokens * width);
    let slots: Vec<u32> = data.0.order(tokens).into_iter().map(|slot| slot as u32).collect();
    let (device, bq, bs) = (device.clone(), device.upload_new(&qkv)?, device.upload_new(&slots)?);
    let floats = (tokens * kv_width * 4) as u64;
    let [keys, values] = [device.allocate(floats)?, device.allocate(floats)?];
    let (checked_on, checked) = (device.clone(), [keys.clone(), values.clone()]);
    let params = cache_append::Params {
        tokens: tokens as u32,
        width: kv_width as u32,
        stride: width as u32,
        k_offset: heads.k_offset() as u32,
    };
    let check = move || {
        let [mut keys, mut values] = [vec![0.0; tokens * kv_width], vec![0.0; tokens * kv_width]];
        cache_append::reference(&params, &wide(&qkv), &slots, &mut keys, &mut values);
        let mut got = wide(&checked_on.read(&checked[0], tokens * kv_width)?);
        got.extend(wide(&checked_on.read(&checked[1], tokens * kv_width)?));
        keys.append(&mut values);
        Ok(Accuracy::of(&got, &keys, 0.0))
    };
    let launch = move || cache_append::run(&device, heads, tokens, &bq, &bs, &keys, &values);
    Ok(Prepared::new(cache_append::cost(&params), launch, check))
}

/// A new token for each of several sequences, each of which has `tokens` in its cache or fewer.
fn decode(device: &Device, data: &mut Data, heads: Heads, tokens: usize) -> Result<Prepared> {
    let kv_width = heads.kv_width();
    let rows = SEQUENCES * tokens;
    let bytes = (rows * kv_width * 4) as u64;
    if bytes > device.binding_limit() {
        return Err(Error::Budget { what: "one binding", given: device.binding_limit(), needed: bytes });
    }
    let qkv = data.values(SEQUENCES * heads.qkv_width());
    let [keys, values] = [data.values(rows * kv_width), data.values(rows * kv_width)];
    let mut lengths: Vec<u32> = (0..SEQUENCES).map(|_| 1 + data.0.below(tokens) as u32).collect();
    lengths[0] = tokens as u32;
    let scale = 1.0 / (heads.head_dim as f32).sqrt();
    let (device, bq, bl) = (device.clone(), device.upload_new(&qkv)?, device.upload_new(&lengths)?);
    let [bk, bv] = [device.upload_new(&keys)?, device.upload_new(&values)?];
    let out = device.allocate((SEQUENCES * heads.width() * 4) as u64)?;
    let (checked_on, checked) = (device.clone(), out.clone());
    let seen: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    let params = decode::Params {
        heads: heads.heads as u32,
        kv_heads: heads.kv_heads as u32,
        head_dim: heads.head_dim as u32,
        scale,
        capacity: tokens as u32,
    };
    let check = move || {
        let mut want = vec![0.0; SEQUENCES * heads.width()];
        decode::reference(&params, &wide(&qkv), &lengths, &wide(&keys), &wide(&values), &mut want);
        Ok(Accuracy::of(&wide(&checked_on.read(&checked, want.len())?), &want, TOLERANCE))
    };
    let launch = move || {
        let lengths = Lengths { buffer: &bl, tokens: seen };
        decode::run(&device, heads, scale, SEQUENCES, tokens, &bq, lengths, &bk, &bv, &out)
    };
    Ok(Prepared::new(decode::cost(&params, SEQUENCES, seen), launch, check))
}
