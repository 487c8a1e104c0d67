// Y = X Wᵀ: y[t, r] = start + Σ_c x[t, c] w[r, c], a tile of tokens by rows of W per workgroup.
//
// The forward product of a linear layer stored [out, in], and the input gradient of one stored [in, out].
// The sum over c runs in order from the start value, so neither the tile nor its place nor a split of W over several
// launches changes a result's bits.

#permute ELEMENT f32 f16 bf16
#permute TILE 128 128x64 64 32
#permute EDGES none any
#define WIDTH rows
#define SUM columns
#define RIGHT line
#import full_product
