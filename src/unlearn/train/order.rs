//! The order in which training draws its samples.

use crate::random::Random;

/// An endless sequence of the numbers below `count`: one permutation after the other.
pub(in crate::unlearn) struct Order {
    permutation: Vec<usize>,
    next: usize,
    random: Random,
}

impl Order {
    pub(in crate::unlearn) fn new(count: usize, random: Random) -> Self {
        Order { permutation: (0..count).collect(), next: count, random }
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.next == self.permutation.len() {
            self.next = 0;
            self.random.shuffle(&mut self.permutation);
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
            let drawn: Vec<usize> = Order::new(count, Random::from_state(seed)).take(3 * count).collect();
            let mut rounds = drawn.chunks(count).map(<[_]>::to_vec).collect::<Vec<_>>();
            assert!(count < 10 || rounds[0] != rounds[1], "not shuffled again");
            rounds.iter_mut().for_each(|round| round.sort_unstable());
            assert!(rounds.iter().all(|round| round.iter().copied().eq(0..count)));
        }
    }
}
