// Folds a slice of each token's logits into its best so far: the bits of the largest logit, and its column. One workgroup
// per token.

#import best

struct Params {
    tokens: u32,
    width: u32,
    first_column: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> best: array<u32>;

@compute @workgroup_size(WG_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let token = group.x + group.y * groups.x;
    if token >= params.tokens {
        return;
    }
    var score = bitcast<f32>(best[token * 2u]);
    var column = best[token * 2u + 1u];
    for (var i = local; i < params.width; i += WG_SIZE) {
        let logit = logits[token * params.width + i];
        if better(logit, params.first_column + i, score, column) {
            score = logit;
            column = params.first_column + i;
        }
    }
    find_best(local, score, column);
    if local == 0u {
        best[token * 2u] = bitcast<u32>(sh_scores[0]);
        best[token * 2u + 1u] = sh_columns[0];
    }
}
