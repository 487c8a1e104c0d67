// Gradient of causal attention at the queries. One workgroup per (tile of queries, query head).
//
// With p = exp(scale q·k - log_sum) and row_dot = Σ_c out d_out: the gradient at a score is ds = p (d_out·v - row_dot), and
// dq = scale Σ_k ds k (Dao et al. 2022). row_dots is written for the gradient at keys and values.

#permute HEAD 64 128 256
#import attention_backward

@group(0) @binding(3) var<storage, read> out: array<f32>;
@group(0) @binding(4) var<storage, read> d_out: array<f32>;
@group(0) @binding(5) var<storage, read> log_sums: array<f32>;
@group(0) @binding(6) var<storage, read_write> row_dots: array<f32>;
@group(0) @binding(7) var<storage, read_write> d_qkv: array<f32>;

var<workgroup> sh_queries: array<f32, TILE * PITCH>;
var<workgroup> sh_d_out: array<f32, TILE * PITCH>;
var<workgroup> sh_keys: array<f32, BLOCK * PITCH>;
var<workgroup> sh_values: array<f32, BLOCK * PITCH>;
// Parts of the row dots, then the scores' gradients.
var<workgroup> sh_grads: array<f32, TILE * PITCH>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile = tiles[group.x];
    let tile_end = tile.x + tile.y;
    let head = group.y;
    let kv_head = head / (params.heads / params.kv_heads);
    let lane = local % LANES;
    let row = local / LANES;

    for (var i = 0u; i < 2u; i++) {
        let token = tile.x + row + i * ROWS;
        var part = 0.0;
        if token < tile_end {
            for (var c = lane; c < params.head_dim; c += LANES) {
                let place = (token * params.heads + head) * params.head_dim + c;
                part = fma(out[place], d_out[place], part);
            }
        }
        sh_grads[(row + i * ROWS) * PITCH + lane] = part;
    }
    workgroupBarrier();
    var dots: array<f32, 2>;
    var log_sum: array<f32, 2>;
    for (var i = 0u; i < 2u; i++) {
        for (var n = 0u; n < LANES; n++) {
            dots[i] += sh_grads[(row + i * ROWS) * PITCH + n];
        }
        let token = tile.x + row + i * ROWS;
        if token < tile_end {
            log_sum[i] = log_sums[token * params.heads + head];
            if lane == 0u {
                row_dots[token * params.heads + head] = dots[i];
            }
        }
    }
    workgroupBarrier();

    var sums: array<array<f32, SUMS>, 2>;
    for (var block = tile.z; block < tile_end; block += BLOCK) {
        var scores: array<array<f32, 2>, 2>;
        var d_weights: array<array<f32, 2>, 2>;
        for (var chunk = 0u; chunk < params.head_dim; chunk += CHUNK) {
            for (var n = local; n < TILE * CHUNK; n += WG_SIZE) {
                let token = tile.x + n / CHUNK;
                let column = chunk + n % CHUNK;
                sh_queries[staged(n)] = qkv_number(token, tile_end, q_offset(head), column);
                sh_d_out[staged(n)] = d_out_number(token, tile_end, head, column);
            }
            for (var n = local; n < BLOCK * CHUNK; n += WG_SIZE) {
                let token = block + n / CHUNK;
                let column = chunk + n % CHUNK;
                sh_keys[staged(n)] = qkv_number(token, tile_end, k_offset(kv_head), column);
                sh_values[staged(n)] = qkv_number(token, tile_end, v_offset(kv_head), column);
            }
            workgroupBarrier();
            for (var c = 0u; c < CHUNK; c++) {
                for (var i = 0u; i < 2u; i++) {
                    let query = sh_queries[(row + i * ROWS) * PITCH + c];
                    let d_value = sh_d_out[(row + i * ROWS) * PITCH + c];
                    for (var j = 0u; j < 2u; j++) {
                        let place = (lane + j * LANES) * PITCH + c;
                        scores[i][j] = fma(query, sh_keys[place], scores[i][j]);
                        d_weights[i][j] = fma(d_value, sh_values[place], d_weights[i][j]);
                    }
                }
            }
            workgroupBarrier();
        }

        for (var i = 0u; i < 2u; i++) {
            for (var j = 0u; j < 2u; j++) {
                let visible = block + lane + j * LANES <= tile.x + row + i * ROWS;
                let weight = exp(params.scale * scores[i][j] - log_sum[i]);
                let gradient = weight * (d_weights[i][j] - dots[i]) * params.scale;
                sh_grads[(row + i * ROWS) * PITCH + lane + j * LANES] = select(0.0, gradient, visible);
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
                sh_keys[staged(n)] = qkv_number(token, tile_end, k_offset(kv_head), column);
            }
            workgroupBarrier();
            for (var k = 0u; k < BLOCK; k++) {
                for (var i = 0u; i < 2u; i++) {
                    let gradient = sh_grads[(row + i * ROWS) * PITCH + k];
                    for (var j = 0u; j < 2u; j++) {
                        let key = sh_keys[k * PITCH + lane + j * LANES];
                        sums[i][part * 2u + j] = fma(gradient, key, sums[i][part * 2u + j]);
                    }
                }
            }
            workgroupBarrier();
        }
    }

    for (var i = 0u; i < 2u; i++) {
        let token = tile.x + row + i * ROWS;
        for (var c = 0u; c < SUMS; c++) {
            let column = c * LANES + lane;
            if token < tile_end && column < params.head_dim {
                d_qkv[qkv_place(token, q_offset(head), column)] = sums[i][c];
            }
        }
    }
}
