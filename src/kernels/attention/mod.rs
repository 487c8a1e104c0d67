//! Kernels of causal attention with grouped heads, and of its rotary embedding.

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[];

pub mod cache_append;
pub mod decode;
pub mod forward;
pub mod key_value_grad;
pub mod query_grad;
pub mod rotary;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}
impl Heads {
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }
    pub fn k_offset(&self) -> usize {
        self.width()
    }
    pub fn v_offset(&self) -> usize {
        self.width() + self.kv_heads * self.head_dim
    }
}
#[derive(Clone, Copy, Debug)]
pub struct Tiles<'a> {
    pub buffer: &'a crate::device::Buffer,
    pub count: usize,
}
pub fn tiles(_sample_offsets: &[u32]) -> Vec<u32> {
    Vec::new()
}
