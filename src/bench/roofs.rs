//! The machine's roofs, measured: what no kernel can exceed.

use std::time::Instant;

use super::{Bound, Roof, timing};
use crate::device::Device;
use crate::kernels::linear::matmul_nt;
use crate::kernels::precision::Unit;
use crate::kernels::{Cost, Matrix, Window, roof};
use crate::random::Random;
use crate::{Element, Result};

/// Bytes that a copy reads, and as many that it writes: far more than a cache holds.
const COPIED: usize = 128 << 20;
/// Rows and columns of a dense product.
const SIDE: usize = 1024;

/// What the machine can do.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Roofs {
    /// Bytes per second that a copy on the device reads and writes together.
    pub copy: f64,
    /// Operations per second of fused multiply-adds in f32 (two each).
    pub multiply_add: f64,
    /// Operations per second of a dense f32 product, in a call of the linear algebra library; on the CPU only.
    pub product: Option<f64>,
    /// Operations per second of the matrix units: factors in half, sums in single precision; none where there are none.
    pub matrix: Option<f64>,
    /// Bytes per second from the host to the device; none where they are one.
    pub upload: Option<f64>,
    /// Bytes per second from the device to the host; none where they are one.
    pub download: Option<f64>,
}

impl Roofs {
    /// Measures them, for about `seconds` each.
    ///
    /// # Errors
    /// When the device failed or has no room.
    pub fn measure(device: &Device, seconds: f64) -> Result<Self> {
        let bytes = COPIED.min(device.binding_limit() as usize / 2).min(device.budget().limit() as usize / 4) & !255;
        let [from, to] = [device.allocate(bytes as u64)?, device.allocate(bytes as u64)?];
        let copy = timing::of(device, seconds, || roof::copy::run(device, bytes / 4, &from, &to))?.least;
        let sums = device.allocate(roof::multiply_add::INVOCATIONS as u64 * 4)?;
        let rounds = rounds(device, |rounds| roof::multiply_add::run(device, rounds, &sums))?;
        let chains = timing::of(device, seconds, || roof::multiply_add::run(device, rounds, &sums))?.least;
        let mut roofs = Roofs {
            copy: 2.0 * bytes as f64 / copy,
            multiply_add: roof::multiply_add::cost(rounds).operations as f64 / chains,
            product: None,
            matrix: None,
            upload: None,
            download: None,
        };
        if device.is_cpu() {
            roofs.product = Some(product(device, seconds)?);
            return Ok(roofs);
        }
        if let Some(unit) = Unit::best(device.features()) {
            roofs.matrix = Some(matrix(device, unit, seconds)?);
        }
        let mut host = vec![1u8; bytes];
        let upload = || {
            device.upload(&to, 0, &host)?;
            device.synchronize()
        };
        roofs.upload = Some(bytes as f64 / least(seconds, upload)?);
        roofs.download = Some(bytes as f64 / least(seconds, || device.download(&to, 0, &mut host))?);
        Ok(roofs)
    }

    /// The roof that binds a launch of this kernel and cost, and how near `seconds` comes to it.
    pub fn bound(&self, kernel: &str, cost: Cost, seconds: f64) -> Option<Bound> {
        let moved = cost.bytes as f64 / self.copy;
        let (ceiling, rate) = match self.matrix {
            Some(matrix) if on_matrix_units(kernel) => (Roof::Matrix, matrix),
            _ => (Roof::Arithmetic, self.multiply_add),
        };
        let computed = cost.operations as f64 / rate;
        let by = if moved > computed { Roof::Bandwidth } else { ceiling };
        let share = moved.max(computed) / seconds;
        share.is_finite().then_some(Bound { by, share })
    }

    /// Operations per byte at which both roofs meet.
    pub fn ridge(&self) -> f64 {
        self.multiply_add / self.copy
    }
}

/// Whether a kernel multiplies on matrix units where there are any.
fn on_matrix_units(kernel: &str) -> bool {
    kernel.starts_with("linear/mixed_") || kernel == roof::matrix_multiply::KERNEL.name
}

/// The rate of matrix units.
fn matrix(device: &Device, unit: Unit, seconds: f64) -> Result<f64> {
    let sums = device.allocate(roof::matrix_multiply::INVOCATIONS as u64 * 4)?;
    let products = |rounds| roof::matrix_multiply::run(device, unit, rounds, &sums);
    let rounds = rounds(device, products)?;
    let least = timing::of(device, seconds, || products(rounds))?.least;
    Ok(roof::matrix_multiply::cost(unit, rounds).operations as f64 / least)
}

/// As many rounds as take some milliseconds: a software driver does far fewer than a GPU.
fn rounds(device: &Device, launch: impl Fn(u32) -> Result<()>) -> Result<u32> {
    // The CPU takes about as long to begin its chains as for some dozen rounds of them.
    let mut rounds = if device.is_cpu() { 256 } else { 16 };
    while rounds < 1 << 20
        && least(0.0, || {
            launch(rounds)?;
            device.synchronize()
        })? < 5e-3
    {
        rounds *= 4;
    }
    Ok(rounds)
}

/// The shortest of several runs, in seconds.
fn least(seconds: f64, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let (mut least, start) = (f64::INFINITY, Instant::now());
    let mut runs = 0;
    while runs < 3 || start.elapsed().as_secs_f64() < seconds {
        let once = Instant::now();
        work()?;
        least = least.min(once.elapsed().as_secs_f64());
        runs += 1;
    }
    Ok(least)
}

/// A dense product on all cores, by the linear algebra library.
fn product(device: &Device, seconds: f64) -> Result<f64> {
    let mut random = Random::new(1, "roof");
    let mut values = || (0..SIDE * SIDE).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect::<Vec<f32>>();
    let [x, w] = [device.upload_new(&values())?, device.upload_new(&values())?];
    let y = device.allocate((SIDE * SIDE * 4) as u64)?;
    let matrix = Matrix { buffer: &w, element: Element::F32, rows: SIDE, columns: SIDE };
    let (x, y) = (Window::all(&x, SIDE), Window::all(&y, SIDE));
    let timing = timing::of(device, seconds, || matmul_nt::run(device, SIDE, x, matrix, y, false))?;
    Ok(2.0 * (SIDE as f64).powi(3) / timing.least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binding_roof_is_the_one_that_takes_longer() {
        let (matrix, none) = (Some(4000.0), None);
        let roofs = Roofs { copy: 100.0, multiply_add: 1000.0, product: none, matrix, upload: none, download: none };
        assert_eq!(roofs.ridge(), 10.0);
        let bound = roofs.bound("linear/matmul_nt", Cost { bytes: 200, operations: 1000 }, 4.0).unwrap();
        assert_eq!(bound, Bound { by: Roof::Bandwidth, share: 0.5 });
        let bound = roofs.bound("linear/matmul_nt", Cost { bytes: 10, operations: 1000 }, 2.0).unwrap();
        assert_eq!(bound, Bound { by: Roof::Arithmetic, share: 0.5 });
        let bound = roofs.bound("linear/mixed_nt", Cost { bytes: 10, operations: 1000 }, 2.0).unwrap();
        assert_eq!(bound, Bound { by: Roof::Matrix, share: 0.125 });
    }

    #[test]
    fn this_machine_has_roofs() {
        let roofs = Roofs::measure(&Device::cpu(u64::MAX), 0.02).unwrap();
        assert!(roofs.copy > 1e8 && roofs.multiply_add > 1e8 && roofs.product.unwrap() > 1e7, "{roofs:?}");
        // A library's product cannot be faster than multiply-adds in registers, give or take what else runs here. Without
        // optimisation ours are not in registers.
        if !cfg!(debug_assertions) {
            assert!(roofs.product.unwrap() < 1.5 * roofs.multiply_add, "{roofs:?}");
        }
    }
}
