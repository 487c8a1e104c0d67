//! What every kernel test needs: all devices of the machine, fresh random data from a seed that is printed, and a
//! comparison against float64.

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use efface::device::{Choice, Device, Options, adapters, open_with};
use efface::kernels::tuning::candidates;

/// The CPU device and every adapter of the machine. Shaders check every access unless `EFFACE_SHADER_CHECKS=off`.
///
/// # Panics
/// When there is no adapter: a run in which no WGSL was executed must fail, not pass. `scripts/test` installs a software
/// driver where there is no GPU.
pub fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let adapters = adapters();
        assert!(
            !adapters.is_empty(),
            "no adapter: the WGSL would not be executed (scripts/test installs a software driver)"
        );
        let shader_checks = std::env::var("EFFACE_SHADER_CHECKS").map_or(true, |value| value != "off");
        let options = Options { shader_checks, ..Options::default() };
        let open = |number| open_with(Choice::Adapter(number), &options).expect("a listed adapter opens");
        let gpus = adapters.iter().map(|adapter| open(adapter.number));
        std::iter::once(Device::cpu(u64::MAX)).chain(gpus).collect()
    })
}

/// A handle of every device for each variant in which `kernel` can be tuned to run, with a name; of the CPU only itself.
///
/// # Panics
/// When there is no adapter.
pub fn variants(kernel: &'static str) -> Vec<(String, Device)> {
    let of = |device: &Device| match device.is_cpu() {
        true => vec![(device.name(), device.clone())],
        false => candidates(kernel)
            .iter()
            .map(|variant| {
                let tuning = device.tuning().forced(kernel, variant).expect("a candidate");
                (format!("{} {variant}", device.name()), device.with_tuning(tuning))
            })
            .collect(),
    };
    devices().iter().flat_map(of).collect()
}

/// Random numbers for one test: seeded afresh, or from `EFFACE_TEST_SEED`, and printed so that a failure can be repeated.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A new stream of numbers for the test `name`.
    pub fn new(name: &str) -> Self {
        let seed = match std::env::var("EFFACE_TEST_SEED") {
            Ok(text) => text.parse().expect("EFFACE_TEST_SEED is a number"),
            Err(_) => RandomState::new().hash_one(name),
        };
        println!("{name}: EFFACE_TEST_SEED={seed}");
        Random(seed)
    }

    /// The next 64 random bits (SplitMix64; Steele, Lea and Flood 2014).
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        low + (self.bits() % (high - low + 1) as u64) as usize
    }

    /// A number from -1 to 1.
    pub fn signed(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `count` numbers from -1 to 1.
    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.signed()).collect()
    }

    /// `n + 1` offsets that cut `total` rows into `n` consecutive parts, none of them empty.
    pub fn offsets(&mut self, parts: usize, total: usize) -> Vec<u32> {
        assert!(parts <= total, "{parts} parts of {total} rows");
        let mut cuts: Vec<u32> = (1..total as u32).collect();
        for i in 0..cuts.len() {
            let j = self.size(i, cuts.len() - 1);
            cuts.swap(i, j);
        }
        cuts.truncate(parts - 1);
        cuts.extend([0, total as u32]);
        cuts.sort_unstable();
        cuts
    }
}

/// Widens stored numbers, so that formulas can be written in float64.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// Compares with a float64 result: relative error of the whole (‖got − want‖ / ‖want‖) at most `tolerance`, no element
/// further off than ten times that share of the largest, and nothing that is not finite.
///
/// # Panics
/// When the results differ by more.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_close_beside(what, got, want, want, tolerance);
}

/// Compares with a float64 result whose terms may cancel: as [`assert_close`], but the error is measured by `sizes`, the sums of the
/// terms' absolute values. What float32 loses in a sum is a share of its terms, however small their sum (Higham, Accuracy and
/// Stability of Numerical Algorithms, section 4.2).
///
/// # Panics
/// When the results differ by more.
#[track_caller]
pub fn assert_close_beside(what: &str, got: &[f32], want: &[f64], sizes: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths differ");
    assert_eq!(got.len(), sizes.len(), "{what}: lengths of the sizes differ");
    let (mut error, mut norm, mut largest, mut worst) = (0.0f64, 0.0f64, 0.0f64, (0, 0.0f64));
    for (i, ((g, w), size)) in got.iter().zip(want).zip(sizes).enumerate() {
        assert!(g.is_finite() && w.is_finite() && size.is_finite(), "{what}: element {i} is {g}, expected {w}");
        let difference = (f64::from(*g) - w).abs();
        error += difference * difference;
        norm += size * size;
        largest = largest.max(size.abs());
        if difference > worst.1 {
            worst = (i, difference);
        }
    }
    let relative = error.sqrt() / norm.sqrt().max(f64::MIN_POSITIVE);
    let mut message = String::new();
    let _ = write!(message, "{what}: relative error {relative:.2e}, worst element {} off by {:.2e}", worst.0, worst.1);
    let fine = error == 0.0 || (relative <= tolerance && worst.1 <= 10.0 * tolerance * largest);
    assert!(fine, "{message} (largest {largest:.2e}), tolerance {tolerance:.0e}");
}
