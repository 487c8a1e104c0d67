//! The roof of arithmetic: fused multiply-adds in registers.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::simd::{self, MAX_LANES, Vector};
use crate::kernels::{Cost, Kernel, Real, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "roof/multiply_add", summary: "the roof of arithmetic: fused multiply-adds in registers" };

kernel_params! {
    /// The shader's parameters.
    Params = ROOF_MULTIPLY_ADD {
        /// Multiply-adds of each chain.
        rounds: u32,
        /// What every chain is multiplied with.
        factor: f32,
        /// What is added.
        addend: f32,
    }
}

/// Invocations of a launch: many for every multiprocessor of a large GPU.
pub const INVOCATIONS: usize = WORKGROUPS * 256;
const WORKGROUPS: usize = 4096;
/// Vectors of four numbers that an invocation has in flight.
const CHAINS: usize = 8;
/// Keeps every chain near 1.
const FACTOR: f32 = 0.5;
const ADDEND: f32 = 0.5;

/// Runs `rounds` multiply-adds of every chain; `sums` `[INVOCATIONS]` receives what became of them.
///
/// # Errors
/// When the buffer is too small or the device failed.
pub fn run(device: &Device, rounds: u32, sums: &Buffer) -> Result<()> {
    let params = Params { rounds, factor: FACTOR, addend: ADDEND };
    let workgroups = [WORKGROUPS as u32, 1, 1];
    launch(device, KERNEL.name, "", &params, &[sums], workgroups, cost(rounds), |buffers| {
        cpu(&params, &mut buffers.write(1));
    })
}

/// What one launch of so many rounds costs.
pub fn cost(rounds: u32) -> Cost {
    let operations = 2 * 4 * CHAINS as u64 * INVOCATIONS as u64 * u64::from(rounds);
    Cost { bytes: 4 * INVOCATIONS as u64, operations }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, sums: &mut [R]) {
    let (factor, addend) = (R::real(f64::from(params.factor)), R::real(f64::from(params.addend)));
    for (i, sum) in sums.iter_mut().enumerate().take(INVOCATIONS) {
        *sum = R::default();
        for chain in 0..CHAINS {
            let mut value = R::real((i % 7 + chain) as f64);
            for _ in 0..params.rounds {
                value = value * factor + addend;
            }
            *sum += value + value + value + value;
        }
    }
}

/// The fast form on the CPU: as many invocations at a time as fill [`VECTORS`] vectors.
pub fn cpu(params: &Params, sums: &mut [f32]) {
    sums[..INVOCATIONS].par_chunks_mut(PIECE).enumerate().for_each(|(piece, sums)| {
        simd::widest(Chains { params, first: piece * PIECE, sums });
    });
}

/// Invocations that one task computes.
const PIECE: usize = 1 << 12;
/// Vectors in flight: they hide a multiply-add's latency and leave room in 16 registers.
const VECTORS: usize = 12;
/// Numbers that an invocation has in flight.
const NUMBERS: usize = 4 * CHAINS;

/// The chains of some invocations.
struct Chains<'a> {
    params: &'a Params,
    first: usize,
    sums: &'a mut [f32],
}

impl simd::Work for Chains<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let (factor, addend) = (V::splat(self.params.factor), V::splat(self.params.addend));
        let together = (VECTORS * V::LANES / NUMBERS).max(1);
        let mut numbers = [0.0f32; VECTORS * MAX_LANES];
        for (block, sums) in self.sums.chunks_mut(together).enumerate() {
            for (k, numbers) in numbers.chunks_exact_mut(NUMBERS).take(together).enumerate() {
                let start = ((self.first + block * together + k) % 7) as f32;
                numbers.iter_mut().enumerate().for_each(|(n, number)| *number = start + (n / 4) as f32);
            }
            let mut chains: [V; VECTORS] = std::array::from_fn(|v| V::load(&numbers[v * V::LANES..]));
            for _ in 0..self.params.rounds {
                for chain in &mut chains {
                    *chain = chain.mul_add(factor, addend);
                }
            }
            for (v, chain) in chains.into_iter().enumerate() {
                chain.store(&mut numbers[v * V::LANES..]);
            }
            for (sum, numbers) in sums.iter_mut().zip(numbers.chunks_exact(NUMBERS)) {
                *sum = numbers.iter().sum();
            }
        }
    }
}
