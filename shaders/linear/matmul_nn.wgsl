// Y = X W: y[t, c] = start + Σ_r x[t, r] w[r, c], a tile of tokens by columns of W per workgroup.
//
// The input gradient of a linear layer stored [out, in], and the forward product of one stored [in, out].
// The sum over r runs in order from the start value, so slices of W's rows, given one after the other, yield the same
// bits as all of W at once, and so do all tiles.

#permute ELEMENT f32 f16 bf16
#permute TILE 128 128x64 64 32
#permute EDGES none any
#define WIDTH columns
#define SUM rows
#define RIGHT k
#import full_product
