// Y = X W with factors rounded to half precision and sums in single precision: `linear/matmul_nn` for matrix units, and for
// a device without them an emulation that rounds the same.

#permute ELEMENT f32 f16 bf16
#permute UNIT emulated matrix8 matrix16
#permute EDGES none any
#define WIDTH columns
#define SUM rows
#define RIGHT k
#import mixed_product
