// Causal attention within samples: out[t, h, :] = Σ_k softmax_k(scale q[t, h]·k[k, h']) v[k, h', :] over the sample's keys
// k <= t, where kv head h' = h / (heads / kv_heads). One workgroup per (tile of queries, query head).
//
// The softmax is taken online (Milakov and Gimelshein 2018; Dao et al. 2022): blocks of keys are gone through in order with
// a running maximum and sum, so that no row of scores is ever whole. log_sums[t, h] = log Σ_k exp(score) is for backward.

#permute HEAD 64 128 256
#import attention_tile

@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read_write> log_sums: array<f32>;

// Below every score.
const LOWEST = -3.0e38;

var<workgroup> sh_queries: array<f32, TILE * PITCH>;
// Keys, then values.
var<workgroup> sh_block: array<f32, BLOCK * PITCH>;
// Scores, then their exponentials.
var<workgroup> sh_scores: array<f32, TILE * PITCH>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile = tiles[group.x];
    let tile_end = tile.x + tile.y;
    let head = group.y;
    let kv_head = head / (params.heads / params.kv_heads);
    let lane = local % LANES;
    let row = local / LANES;

    var largest = array<f32, 2>(LOWEST, LOWEST);
    var weights: array<f32, 2>;
    var sums: array<array<f32, SUMS>, 2>;
    for (var block = tile.z; block < tile_end; block += BLOCK) {
        var scores: array<array<f32, 2>, 2>;
        for (var chunk = 0u; chunk < params.head_dim; chunk += CHUNK) {
            for (var n = local; n < TILE * CHUNK; n += WG_SIZE) {
                let token = tile.x + n / CHUNK;
                let column = chunk + n % CHUNK;
                sh_queries[staged(n)] = qkv_number(token, tile_end, q_offset(head), column);
            }
            for (var n = local; n < BLOCK * CHUNK; n += WG_SIZE) {
                let token = block + n / CHUNK;
                let column = chunk + n % CHUNK;
                sh_block[staged(n)] = qkv_number(token, tile_end, k_offset(kv_head), column);
            }
            workgroupBarrier();
            for (var c = 0u; c < CHUNK; c++) {
                for (var i = 0u; i < 2u; i++) {
                    let query = sh_queries[(row + i * ROWS) * PITCH + c];
                    for (var j = 0u; j < 2u; j++) {
                        scores[i][j] = fma(query, sh_block[(lane + j * LANES) * PITCH + c], scores[i][j]);
                    }
                }
            }
            workgroupBarrier();
        }

        for (var i = 0u; i < 2u; i++) {
            for (var j = 0u; j < 2u; j++) {
                let visible = block + lane + j * LANES <= tile.x + row + i * ROWS;
                scores[i][j] = select(LOWEST, params.scale * scores[i][j], visible);
                sh_scores[(row + i * ROWS) * PITCH + lane + j * LANES] = scores[i][j];
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < 2u; i++) {
            var now_largest = largest[i];
            for (var k = 0u; k < BLOCK; k++) {
                now_largest = max(now_largest, sh_scores[(row + i * ROWS) * PITCH + k]);
            }
            let shrink = exp(largest[i] - now_largest);
            largest[i] = now_largest;
            weights[i] *= shrink;
            for (var c = 0u; c < SUMS; c++) {
                sums[i][c] *= shrink;
            }
        }
        // All have read the scores before they become weights.
        workgroupBarrier();
        for (var i = 0u; i < 2u; i++) {
            for (var j = 0u; j < 2u; j++) {
                let visible = block + lane + j * LANES <= tile.x + row + i * ROWS;
                let weight = exp(scores[i][j] - largest[i]);
                sh_scores[(row + i * ROWS) * PITCH + lane + j * LANES] = select(0.0, weight, visible);
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < 2u; i++) {
            for (var k = 0u; k < BLOCK; k++) {
                weights[i] += sh_scores[(row + i * ROWS) * PITCH + k];
            }
        }
        for (var part = 0u; part < CHUNKS; part++) {
            if part * CHUNK >= params.head_dim {
                break;
            }
            for (var n = local; n < BLOCK * CHUNK; n += WG_SIZE) {
                let token = block + n / CHUNK;
                let column = part * CHUNK + n % CHUNK;
                sh_block[staged(n)] = qkv_number(token, tile_end, v_offset(kv_head), column);
            }
            workgroupBarrier();
            for (var k = 0u; k < BLOCK; k++) {
                for (var i = 0u; i < 2u; i++) {
                    let weight = sh_scores[(row + i * ROWS) * PITCH + k];
                    for (var j = 0u; j < 2u; j++) {
                        let value = sh_block[k * PITCH + lane + j * LANES];
                        sums[i][part * 2u + j] = fma(weight, value, sums[i][part * 2u + j]);
                    }
                }
            }
            workgroupBarrier();
        }
    }

    for (var i = 0u; i < 2u; i++) {
        let token = tile.x + row + i * ROWS;
        if token < tile_end {
            for (var c = 0u; c < SUMS; c++) {
                let column = c * LANES + lane;
                if column < params.head_dim {
                    out[(token * params.heads + head) * params.head_dim + column] = sums[i][c] / weights[i];
                }
            }
            if lane == 0u {
                log_sums[token * params.heads + head] = largest[i] + log(weights[i]);
            }
        }
    }
}
