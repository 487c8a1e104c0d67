//! The kernels. One name, three places: `shaders/F/X.wgsl`, `src/kernels/F/X.rs` and `kernels-tests/tests/F/X.rs`.
//!
//! Each file here holds one kernel: its parameters, its shape rules and launch, its cost, a plain `reference` whose
//! loops read like the shader's, and `cpu`, the fast form that the CPU device runs. [`registry`] names them all, once,
//! for tests, benchmarks and documentation.

pub mod activation;
pub mod attention;
mod dense;
pub mod elementwise;
pub mod embedding;
mod lanes;
pub mod linear;
pub mod loss;
pub mod norm;
mod operands;
mod panels;
pub mod precision;
mod real;
pub mod reduce;
pub mod roof;
pub(crate) mod shader;
pub(crate) mod simd;
pub mod tile;
pub mod tuning;
pub mod update;
pub mod vector;

pub use operands::{Accumulate, Matrix, Segments, Window};
pub use real::Real;
pub use shader::{SHADERS, Shader};

use crate::device::{Buffer, CpuBindings, Device, Launch};
use crate::{Error, Result};

/// What a launch moves and computes, for the share of a roof that it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Bytes read from and written to device memory, each counted once.
    pub bytes: u64,
    /// Arithmetic operations; a fused multiply-add counts as two.
    pub operations: u64,
}

/// A kernel, as tests, benchmarks and documentation see it.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// `family/name`.
    pub name: &'static str,
    /// What it computes, in one line.
    pub summary: &'static str,
}

/// Every kernel there is, by family. A test fails when a shader, a kernel file or a test file is missing or not listed.
pub fn registry() -> impl Iterator<Item = &'static Kernel> {
    [
        activation::KERNELS,
        attention::KERNELS,
        elementwise::KERNELS,
        embedding::KERNELS,
        linear::KERNELS,
        loss::KERNELS,
        norm::KERNELS,
        reduce::KERNELS,
        roof::KERNELS,
        update::KERNELS,
        vector::KERNELS,
    ]
    .into_iter()
    .flatten()
}

/// Launches the permutation `variant` of the shader `name`: on the CPU device, runs `twin` instead. `cost` is for whoever
/// watches the device; it changes nothing.
pub(crate) fn launch<P: bytemuck::Pod + std::fmt::Debug>(
    device: &Device,
    name: &'static str,
    variant: &str,
    params: &P,
    buffers: &[&Buffer],
    workgroups: [u32; 3],
    cost: Cost,
    twin: impl FnOnce(&CpuBindings<'_>),
) -> Result<()> {
    let shader =
        Shader::find(name, variant).ok_or_else(|| Error::Device(format!("there is no shader {name} [{variant}]")))?;
    let bytes = bytemuck::bytes_of(params);
    device.launch(&Launch { shader, params: bytes, shown: params, buffers, workgroups, cost }, twin)
}

/// Workgroups for `count` invocations in groups of `workgroup_size`; uses a second dimension where one does not suffice.
/// The shader recovers the invocation's number with `flat_index`.
pub(crate) fn flat_grid(count: usize, workgroup_size: usize) -> [u32; 3] {
    let groups = count.div_ceil(workgroup_size);
    let rows = groups.div_ceil(65_535).max(1);
    [groups.div_ceil(rows) as u32, rows as u32, 1]
}

/// A workgroup for each of `rows`; uses a second dimension where one does not suffice. The shader finds its row as
/// `group.x + group.y * groups.x`.
pub(crate) fn row_grid(rows: usize) -> [u32; 3] {
    flat_grid(rows, 1)
}

/// `value` as a shader's 32-bit number.
pub(crate) fn index(value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::Device(format!("{value} exceeds a shader's 32-bit indices")))
}
