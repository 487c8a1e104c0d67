//! Vectors of `f32` as wide as this processor has them, for loops of the CPU twins that the compiler does not vectorise
//! by itself, or only for the oldest processors.
//!
//! [`widest`] compiles a [`Work`] once for each width and picks the widest at run time; [`wide`] does the same for an
//! ordinary loop. `x86-64` processors of different generations give the same bits where a loop's order of summation
//! does not depend on the width and both have fused multiply-adds.

/// A vector of `f32`.
pub(crate) trait Vector: Copy {
    /// How many numbers it holds, at most [`MAX_LANES`].
    const LANES: usize;
    /// `value` in every lane.
    fn splat(value: f32) -> Self;
    /// The first `LANES` numbers of `values`, which holds at least as many.
    fn load(values: &[f32]) -> Self;
    /// Writes the lanes to the first `LANES` numbers of `values`, which holds at least as many.
    fn store(self, values: &mut [f32]);
    /// `self * factor + addend`, rounded once where the processor can.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// Magnitudes.
    fn abs(self) -> Self;
    /// The square's transpose: `turned[k * stride + i] = rows[i][k]`.
    #[inline(always)]
    fn turn(rows: [&[f32; SQUARE]; SQUARE], turned: &mut [f32], stride: usize) {
        for (k, turned) in turned.chunks_mut(stride).take(SQUARE).enumerate() {
            for i in 0..SQUARE {
                turned[i] = rows[i][k];
            }
        }
    }
}

/// Rows and columns of the square that [`Vector::turn`] transposes.
pub(crate) const SQUARE: usize = 8;

/// The lanes of the widest vector there is.
pub(crate) const MAX_LANES: usize = 16;

/// Work that is written for any vector. `run` and what it calls with `V` must be `#[inline(always)]`, so that they are
/// compiled for the processor that [`widest`] found.
pub(crate) trait Work {
    /// What the work yields.
    type Output;
    /// Does it.
    fn run<V: Vector>(self) -> Self::Output;
}

/// Runs `work` with the widest vectors of this processor.
pub(crate) fn widest<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            // SAFETY: the processor has the features that the function is compiled for.
            return unsafe { x86::with_avx512(work) };
        }
        if x86::has_avx2() {
            // SAFETY: as above.
            return unsafe { x86::with_avx2(work) };
        }
    }
    work.run::<Portable>()
}

/// The lanes of the vectors that [`widest`] uses on this processor.
pub(crate) fn lanes() -> usize {
    struct Lanes;
    impl Work for Lanes {
        type Output = usize;
        #[inline(always)]
        fn run<V: Vector>(self) -> usize {
            V::LANES
        }
    }
    widest(Lanes)
}

/// Runs an ordinary loop, compiled for this processor: the compiler vectorises it where it can. The loop belongs into
/// the closure itself, as what it calls is only compiled along where it is inlined. `f32::mul_add` does not belong
/// there: on processors without it, it is a slow function.
pub(crate) fn wide<R>(work: impl FnOnce() -> R) -> R {
    struct Loop<F>(F);
    impl<R, F: FnOnce() -> R> Work for Loop<F> {
        type Output = R;
        #[inline(always)]
        fn run<V: Vector>(self) -> R {
            (self.0)()
        }
    }
    widest(Loop(work))
}

/// What every processor has, in 4 lanes as most of them do.
#[derive(Clone, Copy)]
struct Portable([f32; 4]);

impl Vector for Portable {
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Portable([value; 4])
    }

    #[inline(always)]
    fn load(values: &[f32]) -> Self {
        Portable([values[0], values[1], values[2], values[3]])
    }

    #[inline(always)]
    fn store(self, values: &mut [f32]) {
        values[..4].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Portable(std::array::from_fn(|i| {
            // Without an instruction for it, `f32::mul_add` is a slow function.
            if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                self.0[i].mul_add(factor.0[i], addend.0[i])
            } else {
                self.0[i] * factor.0[i] + addend.0[i]
            }
        }))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Portable(self.0.map(f32::abs))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The vectors are private to this module and handed out by `widest` alone, after it has found that the processor
    //! has their instructions: that is what makes their operations safe to call.

    use std::arch::x86_64::*;

    use super::{SQUARE, Vector, Work};

    pub(super) fn has_avx512() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    }

    pub(super) fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn with_avx512<W: Work>(work: W) -> W::Output {
        work.run::<Avx512>()
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn with_avx2<W: Work>(work: W) -> W::Output {
        work.run::<Avx2>()
    }

    macro_rules! vector {
        ($name:ident($raw:ident), $lanes:literal, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $abs:expr) => {
            #[derive(Clone, Copy)]
            struct $name($raw);

            impl Vector for $name {
                const LANES: usize = $lanes;

                #[inline(always)]
                fn splat(value: f32) -> Self {
                    // SAFETY: the processor has the instruction (see the module).
                    $name(unsafe { $splat(value) })
                }

                #[inline(always)]
                fn load(values: &[f32]) -> Self {
                    let values = &values[..$lanes];
                    // SAFETY: as above, and the slice holds the numbers that are read.
                    $name(unsafe { $load(values.as_ptr()) })
                }

                #[inline(always)]
                fn store(self, values: &mut [f32]) {
                    let values = &mut values[..$lanes];
                    // SAFETY: as above, and the slice has room for the numbers that are written.
                    unsafe { $store(values.as_mut_ptr(), self.0) }
                }

                #[inline(always)]
                fn mul_add(self, factor: Self, addend: Self) -> Self {
                    // SAFETY: the processor has the instruction (see the module).
                    $name(unsafe { $fma(self.0, factor.0, addend.0) })
                }

                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    // SAFETY: as above.
                    $name(unsafe { $add(self.0, other.0) })
                }

                #[inline(always)]
                fn abs(self) -> Self {
                    // SAFETY: as above.
                    $name(unsafe { $abs(self.0) })
                }

                #[inline(always)]
                fn turn(rows: [&[f32; SQUARE]; SQUARE], turned: &mut [f32], stride: usize) {
                    // SAFETY: processors with the vector's instructions have those of AVX2.
                    let columns = unsafe { transpose(rows) };
                    for (column, turned) in columns.into_iter().zip(turned.chunks_mut(stride)) {
                        let turned = &mut turned[..SQUARE];
                        // SAFETY: as above, and the slice has room for the numbers that are written.
                        unsafe { _mm256_storeu_ps(turned.as_mut_ptr(), column) }
                    }
                }
            }
        };
    }

    /// The columns of a square: pairs of rows, then fours, then all.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn transpose(rows: [&[f32; SQUARE]; SQUARE]) -> [__m256; SQUARE] {
        // SAFETY: the processor has the instructions, and each row the numbers that are read.
        unsafe {
            let rows = rows.map(|row| _mm256_loadu_ps(row.as_ptr()));
            let mut pairs = rows;
            let mut fours = rows;
            let mut columns = rows;
            for i in 0..4 {
                pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
                pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
            }
            for half in [0, 4] {
                for i in 0..2 {
                    fours[half + 2 * i] = _mm256_shuffle_ps::<0x44>(pairs[half + i], pairs[half + i + 2]);
                    fours[half + 2 * i + 1] = _mm256_shuffle_ps::<0xee>(pairs[half + i], pairs[half + i + 2]);
                }
            }
            for i in 0..4 {
                columns[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
                columns[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
            }
            columns
        }
    }

    vector!(
        Avx512(__m512),
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_abs_ps
    );
    vector!(
        Avx2(__m256),
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        // There is no instruction for magnitudes: it clears the signs.
        |values| _mm256_andnot_ps(_mm256_set1_ps(-0.0), values)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation on the first numbers of the slices.
    struct Operations<'a>(&'a [f32], &'a [f32], &'a [f32]);

    /// The transpose of a square whose numbers are their places.
    struct Turn;

    impl Work for Turn {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<V: Vector>(self) -> Self::Output {
            let rows: [[f32; SQUARE]; SQUARE] = std::array::from_fn(|i| std::array::from_fn(|k| (10 * i + k) as f32));
            let mut turned = vec![-1.0; 7 * 11 + SQUARE];
            V::turn(rows.each_ref(), &mut turned, 11);
            turned
        }
    }

    impl Work for Operations<'_> {
        type Output = (usize, [Vec<f32>; 4]);

        #[inline(always)]
        fn run<V: Vector>(self) -> Self::Output {
            let [a, b, c] = [self.0, self.1, self.2].map(V::load);
            let results = [a.mul_add(b, c), a.add(b), a.abs(), V::splat(self.0[3])];
            let stored = results.map(|vector| {
                let mut values = vec![0.0; V::LANES];
                vector.store(&mut values);
                values
            });
            (V::LANES, stored)
        }
    }

    fn check((lanes, [fused, sums, magnitudes, splat]): (usize, [Vec<f32>; 4]), [a, b, c]: [&[f32]; 3]) {
        for i in 0..lanes {
            let exact = f64::from(a[i]) * f64::from(b[i]) + f64::from(c[i]);
            assert!((f64::from(fused[i]) - exact).abs() <= 1e-6 * (a[i] * b[i]).abs().max(c[i].abs()) as f64);
            assert_eq!((sums[i], magnitudes[i], splat[i]), (a[i] + b[i], a[i].abs(), a[3]));
        }
    }

    #[test]
    fn every_vector_turns_squares() {
        let mut turned = vec![widest(Turn), Turn.run::<Portable>()];
        #[cfg(target_arch = "x86_64")]
        if x86::has_avx2() {
            // SAFETY: the processor has the features.
            turned.push(unsafe { x86::with_avx2(Turn) });
        }
        for turned in turned {
            for (place, value) in turned.into_iter().enumerate() {
                let (k, i) = (place / 11, place % 11);
                assert_eq!(value, if i < SQUARE { (10 * i + k) as f32 } else { -1.0 });
            }
        }
    }

    #[test]
    fn every_vector_computes_what_its_operations_say() {
        let [a, b, c] = [0.37f32, -1.9, 0.011]
            .map(|step| (0..MAX_LANES).map(|i| (i as f32 - 6.5) * step + 0.1).collect::<Vec<f32>>());
        let operands = [&a[..], &b[..], &c[..]];
        let work = || Operations(&a, &b, &c);
        assert_eq!(widest(work()).0, lanes());
        check(widest(work()), operands);
        check(work().run::<Portable>(), operands);
        #[cfg(target_arch = "x86_64")]
        if x86::has_avx2() {
            // SAFETY: the processor has the features.
            check(unsafe { x86::with_avx2(work()) }, operands);
        }
        assert_eq!(wide(|| a.iter().sum::<f32>()), a.iter().sum::<f32>());
    }
}
