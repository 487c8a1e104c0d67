// Gradient of causal attention at the keys and values. One workgroup per (tile of keys, kv head): it goes through the query
// heads of its group in order, and for each through the later queries of the sample in order, so nothing needs atomics.
//
// With p = exp(scale q·k - log_sum) and ds = p (d_out·v - row_dot): dv = Σ p d_out and dk = scale Σ ds q (Dao et al. 2022).

#permute HEAD 64 128 256
#import attention_backward

@group(0) @binding(3) var<storage, read> d_out: array<f32>;
@group(0) @binding(4) var<storage, read> log_sums: array<f32>;
@group(0) @binding(5) var<storage, read> row_dots: array<f32>;
@group(0) @binding(6) var<storage, read_write> d_qkv: array<f32>;

var<workgroup> sh_keys: array<f32, TILE * PITCH>;
var<workgroup> sh_values: array<f32, TILE * PITCH>;
var<workgroup> sh_queries: array<f32, BLOCK * PITCH>;
var<workgroup> sh_d_out: array<f32, BLOCK * PITCH>;
var<workgroup> sh_weights: array<f32, TILE * PITCH>;
var<workgroup> sh_grads: array<f32, TILE * PITCH>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile = tiles[group.x];
    let tile_end = tile.x + tile.y;
    let sample_end = tile.w;
    let kv_head = group.y;
    let group_size = params.heads / params.kv_heads;
    let lane = local % LANES;
    let row = local / LANES;

    var k_sums: array<array<f32, SUMS>, 2>;
    var v_sums: array<array<f32, SUMS>, 2>;
    for (var head = kv_head * group_size; head < (kv_head + 1u) * group_size; head++) {
        for (var block = tile.x; block < sample_end; block += BLOCK) {
            var scores: array<array<f32, 2>, 2>;
            var d_weights: array<array<f32, 2>, 2>;
            for (var chunk = 0u; chunk < params.head_dim; chunk += CHUNK) {
                for (var n = local; n < TILE * CHUNK; n += WG_SIZE) {
                    let token = tile.x + n / CHUNK;
                    let column = chunk + n % CHUNK;
                    sh_keys[staged(n)] = qkv_number(token, tile_end, k_offset(kv_head), column);
                    sh_values[staged(n)] = qkv_number(token, tile_end, v_offset(kv_head), column);
                }
                for (var n = local; n < BLOCK * CHUNK; n += WG_SIZE) {
                    let token = block + n / CHUNK;
                    let column = chunk + n % CHUNK;
                    sh_queries[staged(n)] = qkv_number(token, sample_end, q_offset(head), column);
                    sh_d_out[staged(n)] = d_out_number(token, sample_end, head, column);
                }
                workgroupBarrier();
                for (var c = 0u; c < CHUNK; c++) {
                    for (var i = 0u; i < 2u; i++) {
                        let key = sh_keys[(row + i * ROWS) * PITCH + c];
                        let value = sh_values[(row + i * ROWS) * PITCH + c];
                        for (var j = 0u; j < 2u; j++) {
                            let place = (lane + j * LANES) * PITCH + c;
                            scores[i][j] = fma(key, sh_queries[place], scores[i][j]);
                            d_weights[i][j] = fma(value, sh_d_out[place], d_weights[i][j]);
                        }
                    }
                }
                workgroupBarrier();
            }

            for (var j = 0u; j < 2u; j++) {
                let query = block + lane + j * LANES;
                var log_sum = 0.0;
                var dot = 0.0;
                if query < sample_end {
                    log_sum = log_sums[query * params.heads + head];
                    dot = row_dots[query * params.heads + head];
                }
                for (var i = 0u; i < 2u; i++) {
                    let visible = tile.x + row + i * ROWS <= query && query < sample_end;
                        let weight = select(0.0, exp(params.scale * scores[i][j] - log_sum), visible);
                    let place = (row + i * ROWS) * PITCH + lane + j * LANES;
                    sh_weights[place] = weight;
                    sh_grads[place] = weight * (d_weights[i][j] - dot) * params.scale;
                }
            }
            workgroupBarrier();
            for (var part = 0u; part < CHUNKS; part++) {
                if part * CHUNK >= params.head_dim {
                    break;
                }
                for (var n = local; n < BLOCK * CHUNK; n += WG_SIZE) {
                    let token = block + n / CHUNK;
                    let column = part * CHUNK + n % CHUNK;
                    sh_queries[staged(n)] = qkv_number(token, sample_end, q_offset(head), column);
                    sh_d_out[staged(n)] = d_out_number(token, sample_end, head, column);
                }
                workgroupBarrier();
                for (var q = 0u; q < BLOCK; q++) {
                    for (var i = 0u; i < 2u; i++) {
                        let gradient = sh_grads[(row + i * ROWS) * PITCH + q];
                        let weight = sh_weights[(row + i * ROWS) * PITCH + q];
                        for (var j = 0u; j < 2u; j++) {
                            let place = q * PITCH + lane + j * LANES;
                            let c = part * 2u + j;
                            k_sums[i][c] = fma(gradient, sh_queries[place], k_sums[i][c]);
                            v_sums[i][c] = fma(weight, sh_d_out[place], v_sums[i][c]);
                        }
                    }
                }
                workgroupBarrier();
            }
        }
    }

    for (var i = 0u; i < 2u; i++) {
        let token = tile.x + row + i * ROWS;
        for (var c = 0u; c < SUMS; c++) {
            let column = c * LANES + lane;
            if token < tile_end && column < params.head_dim {
                d_qkv[qkv_place(token, k_offset(kv_head), column)] = k_sums[i][c];
                d_qkv[qkv_place(token, v_offset(kv_head), column)] = v_sums[i][c];
            }
        }
    }
}
