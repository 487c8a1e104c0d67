//! The models whose layers the kernels are given. Figures from their published configurations.

/// The sizes of a model's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How it is called on the command line.
    pub name: &'static str,
    /// Columns of an activation between layers.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Columns within a feed-forward block.
    pub feed_forward: usize,
    /// Tokens known.
    pub vocabulary: usize,
    /// Layers.
    pub layers: usize,
}

/// The shapes that there are, smallest first.
pub const SHAPES: &[Shape] = &[
    Shape {
        name: "smollm2-135m",
        hidden: 576,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        feed_forward: 1536,
        vocabulary: 49_152,
        layers: 30,
    },
    Shape {
        name: "qwen2.5-1.5b",
        hidden: 1536,
        heads: 12,
        kv_heads: 2,
        head_dim: 128,
        feed_forward: 8960,
        vocabulary: 151_936,
        layers: 28,
    },
    Shape {
        name: "llama-3-8b",
        hidden: 4096,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        feed_forward: 14_336,
        vocabulary: 128_256,
        layers: 32,
    },
    Shape {
        name: "llama-3-70b",
        hidden: 8192,
        heads: 64,
        kv_heads: 8,
        head_dim: 128,
        feed_forward: 28_672,
        vocabulary: 128_256,
        layers: 80,
    },
];
