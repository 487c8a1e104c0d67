//! Inner loops of the CPU twins that need help to become vector code: sums in a fixed number of lanes, an exponential
//! without branches, and functions compiled a second time for processors with AVX2.

/// Defines a function that runs, where the processor has AVX2 and FMA, as a copy compiled for them.
macro_rules! multiversioned {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),+ $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),+) $(-> $out)? {
            #[inline(always)]
            fn portable($($arg: $ty),+) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),+) $(-> $out)? {
                    portable($($arg),+)
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has the features that the copy is compiled for.
                    return unsafe { avx2($($arg),+) };
                }
            }
            portable($($arg),+)
        }
    };
}
pub(crate) use multiversioned;

/// Partial sums that a long sum is split into: the order of summation is the same on every processor.
const LANES: usize = 16;

/// The lanes' sum, as a tree.
#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// Σ a\[i\].
#[inline(always)]
pub(crate) fn sum(a: &[f32]) -> f32 {
    let (chunks, rest) = a.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    total(lanes) + rest.iter().sum::<f32>()
}

/// Σ a\[i\] b\[i\], over the shorter length.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let count = a.len().min(b.len());
    let ((a, a_rest), (b, b_rest)) = (a[..count].as_chunks::<LANES>(), b[..count].as_chunks::<LANES>());
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    total(lanes) + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// y += factor x, over the shorter length.
#[inline(always)]
pub(crate) fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// e^x with a relative error below 2e-7, without branches. Saturates outside of -87 ..= 88; NaN stays NaN.
///
/// e^x = 2^n e^r with n = round(x / ln 2); e^r = 1 + r + r² q(r), q interpolated at the Chebyshev nodes of |r| ≤ ln 2 / 2
/// (relative error of the formula: 1e-8).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const Q: [f32; 5] = [0.5, 0.166_665_78, 0.041_666_556, 0.008_363_173, 0.001_392_617_6];
    // ln 2 in two parts: products of the first one with n are exact.
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let q = Q[0] + r * (Q[1] + r * (Q[2] + r * (Q[3] + r * Q[4])));
    let power_of_two = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    (1.0 + (r + r * r * q)) * power_of_two
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_to_a_few_ulp() {
        let mut worst = 0.0f64;
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / want - 1.0).abs());
        }
        assert!(worst < 2e-7, "{worst:e}");
    }

    #[test]
    fn exp_saturates_and_keeps_nan() {
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(f32::NEG_INFINITY) >= 0.0);
        assert!(exp(f32::INFINITY) > 1e38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_cover_every_length() {
        for count in 0..70usize {
            let a: Vec<f32> = (0..count).map(|i| i as f32 - 3.0).collect();
            let b: Vec<f32> = (0..count).map(|i| 2.0 * i as f32 + 1.0).collect();
            // Whole numbers: every order of summation is exact.
            let want: i64 = (0..count as i64).map(|i| (i - 3) * (2 * i + 1)).sum();
            assert_eq!(dot(&a, &b), want as f32);
            assert_eq!(sum(&b), (count * count) as f32);
        }
    }

    multiversioned! {
        fn tripled(x: &[f32]) -> f32 {
            3.0 * sum(x)
        }
    }

    #[test]
    fn both_versions_agree() {
        assert_eq!(tripled(&[1.0, 2.0]), 9.0);
    }
}
