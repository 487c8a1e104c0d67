//! The tiles in which matrix products are computed, and which one is taken where nothing was measured.

use super::tuning::{AdapterClass, Problem};

/// A tile of a product's result that one workgroup computes. All tiles sum in the same order and give the same bits, so
/// that the choice is one of speed alone: `kernels-tests` holds them to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The name in shader permutations.
    pub name: &'static str,
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
}

/// All tiles.
pub const TILES: [Tile; 4] = [
    Tile { name: "128", rows: 128, columns: 128 },
    Tile { name: "128x64", rows: 128, columns: 64 },
    Tile { name: "64", rows: 64, columns: 64 },
    Tile { name: "32", rows: 32, columns: 32 },
];

/// Their names, in the same order: what tuning tries.
pub const NAMES: &[&str] = &[TILES[0].name, TILES[1].name, TILES[2].name, TILES[3].name];

/// Slices of this depth are staged at a time. An edge-free variant takes no other than whole slices.
pub(crate) const DEPTH: usize = 16;

impl Tile {
    /// The tile of this name.
    pub fn named(name: &str) -> Option<Tile> {
        TILES.into_iter().find(|tile| tile.name == name)
    }

    /// Workgroups for a result, in the two dimensions of a grid: columns first.
    pub(crate) fn grid(self, rows: usize, columns: usize) -> [u32; 3] {
        [columns.div_ceil(self.columns) as u32, rows.div_ceil(self.rows) as u32, 1]
    }

    fn groups(self, rows: usize, columns: usize) -> usize {
        rows.div_ceil(self.rows) * columns.div_ceil(self.columns)
    }

    /// The largest tile of `order` that gives the device enough workgroups and wastes little on the result's edges; else
    /// the smallest.
    fn by_rule(problem: &Problem, class: AdapterClass, order: &[Tile]) -> Tile {
        let enough = match class {
            AdapterClass::Discrete => 128,
            AdapterClass::Integrated => 24,
            AdapterClass::Software => 4,
        };
        let area = problem.rows * problem.columns;
        let fits = |tile: &&Tile| {
            let groups = tile.groups(problem.rows, problem.columns);
            // An eighth more work than there is still pays for a tile that reads half as much.
            groups >= enough && groups * tile.rows * tile.columns <= area + area / 8
        };
        *order.iter().find(fits).unwrap_or(&TILES[3])
    }

    /// What is taken for a product with a stored matrix.
    pub(crate) fn for_product(problem: &Problem, class: AdapterClass) -> Tile {
        Tile::by_rule(problem, class, &TILES)
    }

    /// What is taken for importances, which keep a tile of F beside that of G in registers: at 128 x 128 these are too many
    /// for two workgroups on a multiprocessor.
    pub(crate) fn for_gradient(problem: &Problem, class: AdapterClass) -> Tile {
        Tile::by_rule(problem, class, &TILES[1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(rows: usize, columns: usize) -> Problem {
        Problem { kernel: "linear/matmul_nt", element: None, rows, columns }
    }

    #[test]
    fn large_results_take_large_tiles_and_small_ones_fill_the_device() {
        let discrete = |rows, columns| Tile::for_product(&product(rows, columns), AdapterClass::Discrete).name;
        assert_eq!(discrete(2048, 4096), "128");
        assert_eq!(discrete(64, 4096), "32");
        assert_eq!(discrete(576, 1536), "64");
        assert_eq!(discrete(1, 1), "32");
        assert_eq!(Tile::for_gradient(&product(2048, 4096), AdapterClass::Discrete).name, "128x64");
    }

    #[test]
    fn edges_decide_against_a_tile_that_would_mostly_hang_over() {
        assert_eq!(Tile::for_product(&product(4096, 4160), AdapterClass::Discrete).name, "128");
        assert_eq!(Tile::for_product(&product(33, 40_000), AdapterClass::Integrated).name, "32");
    }
}
