//! The roof of matrix units: products of fragments in registers.

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::precision::Unit;
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "roof/matrix_multiply", summary: "the roof of matrix units: products of fragments in registers" };

kernel_params! {
    /// The shader's parameters.
    Params = ROOF_MATRIX_MULTIPLY {
        /// Products that are added to each sum.
        rounds: u32,
    }
}

/// Invocations of a launch: some subgroups for every multiprocessor of a large GPU.
pub const INVOCATIONS: usize = WORKGROUPS * 128;
const WORKGROUPS: usize = 2048;
/// Invocations of a subgroup.
const SUBGROUP: usize = 32;
/// Fragments of a factor that a subgroup has in registers.
const FRAGMENTS: usize = 4;

/// The sides of a fragment.
fn side(unit: Unit) -> usize {
    match unit {
        Unit::Matrix8 => 8,
        Unit::Emulated | Unit::Matrix16 => 16,
    }
}

/// Adds `rounds` products to every sum on `unit`; `sums` `[INVOCATIONS]` receives what each invocation has of them.
///
/// # Errors
/// When the buffer is too small or the device failed.
pub fn run(device: &Device, unit: Unit, rounds: u32, sums: &Buffer) -> Result<()> {
    let params = Params { rounds };
    let variant = format!("UNIT={}", unit.name());
    let workgroups = [WORKGROUPS as u32, 1, 1];
    launch(device, KERNEL.name, &variant, &params, &[sums], workgroups, cost(unit, rounds), |buffers| {
        cpu(&params, unit, &mut buffers.write(1));
    })
}

/// What one launch of so many rounds costs.
pub fn cost(unit: Unit, rounds: u32) -> Cost {
    let products = (FRAGMENTS * FRAGMENTS * (INVOCATIONS / SUBGROUP)) as u64 * u64::from(rounds);
    Cost { bytes: 4 * INVOCATIONS as u64, operations: 2 * (side(unit) as u64).pow(3) * products }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, unit: Unit, sums: &mut [R]) {
    let side = side(unit);
    let element = |fragment: usize| R::real(0.25 * (1 + fragment) as f64);
    for total in sums.iter_mut().take(INVOCATIONS) {
        *total = R::default();
        for i in 0..FRAGMENTS {
            for j in 0..FRAGMENTS {
                for _ in (0..side * side).step_by(SUBGROUP) {
                    let mut sum = R::default();
                    for _ in 0..params.rounds as usize * side {
                        sum += element(i) * element(j);
                    }
                    *total += sum;
                }
            }
        }
    }
}

/// The fast form on the CPU, which has no such units: all invocations come to the same, so that one is enough.
pub fn cpu(params: &Params, unit: Unit, sums: &mut [f32]) {
    let mut one = [0.0];
    reference(params, unit, &mut one);
    sums[..INVOCATIONS].fill(one[0]);
}
