//! The order in which training draws its samples.

/// An endless sequence of the numbers below `count`: one permutation after the other.
pub(super) struct Order {
    permutation: Vec<usize>,
    next: usize,
    state: u64,
}

impl Order {
    pub(super) fn new(count: usize, seed: u64) -> Self {
        Order { permutation: (0..count).collect(), next: count, state: seed }
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.next == self.permutation.len() {
            self.next = 0;
            for last in (1..self.permutation.len()).rev() {
                let other = ((u128::from(self.random()) * (last as u128 + 1)) >> 64) as usize;
                self.permutation.swap(last, other);
            }
        }
        let drawn = self.permutation.get(self.next).copied();
        self.next += 1;
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_drawn_once_before_any_is_drawn_again() {
        for (count, seed) in [(1, 0), (7, 1), (100, u64::MAX)] {
            let drawn: Vec<usize> = Order::new(count, seed).take(3 * count).collect();
            let mut rounds = drawn.chunks(count).map(<[_]>::to_vec).collect::<Vec<_>>();
            assert!(count < 10 || rounds[0] != rounds[1], "not shuffled again");
            rounds.iter_mut().for_each(|round| round.sort_unstable());
            assert!(rounds.iter().all(|round| round.iter().copied().eq(0..count)));
        }
    }
}
