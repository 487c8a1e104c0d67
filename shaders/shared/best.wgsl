// The best of one number and column from each invocation of a workgroup: the largest, and of equals the first column.

const WG_SIZE = 256u;
const NO_COLUMN = 0xffffffffu;

var<workgroup> sh_scores: array<f32, WG_SIZE>;
var<workgroup> sh_columns: array<u32, WG_SIZE>;

fn better(score: f32, column: u32, than: f32, than_column: u32) -> bool {
    return score > than || (score == than && column < than_column);
}

// Leaves the best in sh_scores[0] and sh_columns[0].
fn find_best(local: u32, score: f32, column: u32) {
    sh_scores[local] = score;
    sh_columns[local] = column;
    workgroupBarrier();
    for (var half = WG_SIZE / 2u; half > 0u; half >>= 1u) {
        if local < half && better(sh_scores[local + half], sh_columns[local + half], sh_scores[local], sh_columns[local]) {
            sh_scores[local] = sh_scores[local + half];
            sh_columns[local] = sh_columns[local + half];
        }
        workgroupBarrier();
    }
}
