//! What a device offers kernels beyond the portable floor. Everything here is optional: a kernel that uses it has a variant
//! that does not.

/// What a device's shaders may use. The CPU device has none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Half-precision arithmetic (`enable f16;`).
    pub f16: bool,
    /// Subgroup operations (`enable subgroups;`): the smallest and the largest subgroup that the device may choose.
    pub subgroups: Option<[u32; 2]>,
    /// The products that the device's matrix units compute; empty where there are none, or where wgpu objects came from an
    /// embedder, whose adapter is not known.
    pub matrices: Vec<MatrixProduct>,
    /// Timestamps at the boundaries of passes.
    pub timestamps: bool,
    /// Compiled pipelines can be kept from run to run.
    pub pipeline_cache: bool,
}

/// A product `C[m, n] = A[m, k] B[k, n] + C` that a subgroup computes in one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixProduct {
    /// Rows of A and C.
    pub m: u32,
    /// Columns of B and C.
    pub n: u32,
    /// Columns of A, rows of B.
    pub k: u32,
    /// Elements of A and B.
    pub factors: Scalar,
    /// Elements of C.
    pub sum: Scalar,
}

/// A number that matrix units work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Half precision.
    F16,
    /// Single precision.
    F32,
}

impl Features {
    /// The features that efface makes use of where an adapter has them.
    pub(super) fn wanted() -> wgpu::Features {
        wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS
            | wgpu::Features::SHADER_F16
            | wgpu::Features::SUBGROUP
            | wgpu::Features::PIPELINE_CACHE
            | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    }

    /// What `device` was opened with. `matrices` is what its adapter says of its matrix units.
    pub(super) fn of(device: &wgpu::Device, matrices: &[wgpu::CooperativeMatrixProperties]) -> Self {
        let (features, info) = (device.features(), device.adapter_info());
        let has = |feature| features.contains(feature);
        let subgroups = [info.subgroup_min_size, info.subgroup_max_size];
        let products = matrices.iter().filter_map(MatrixProduct::of);
        Features {
            f16: has(wgpu::Features::SHADER_F16),
            subgroups: has(wgpu::Features::SUBGROUP).then_some(subgroups),
            matrices: products.filter(|_| has(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)).collect(),
            timestamps: has(wgpu::Features::TIMESTAMP_QUERY),
            pipeline_cache: has(wgpu::Features::PIPELINE_CACHE),
        }
    }

    /// Whether matrix units multiply square matrices of this side with these elements.
    pub fn multiplies(&self, side: u32, factors: Scalar, sum: Scalar) -> bool {
        self.matrices.contains(&MatrixProduct { m: side, n: side, k: side, factors, sum })
    }
}

impl MatrixProduct {
    fn of(properties: &wgpu::CooperativeMatrixProperties) -> Option<Self> {
        Some(MatrixProduct {
            m: properties.m_size,
            n: properties.n_size,
            k: properties.k_size,
            factors: Scalar::of(properties.ab_type)?,
            sum: Scalar::of(properties.cr_type)?,
        })
    }
}

impl Scalar {
    fn of(kind: wgpu::CooperativeScalarType) -> Option<Self> {
        match kind {
            wgpu::CooperativeScalarType::F16 => Some(Scalar::F16),
            wgpu::CooperativeScalarType::F32 => Some(Scalar::F32),
            _ => None,
        }
    }
}
