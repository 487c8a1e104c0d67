//! Draws that a seed repeats: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). For choosing samples and orders, not for
//! secrets.

/// A sequence of draws.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of `seed` for one `purpose`: sequences of different purposes have nothing in common.
    pub fn new(seed: u64, purpose: &str) -> Self {
        // FNV-1a of the purpose.
        let hash = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut random = Random { state: seed ^ hash };
        random.state = random.bits();
        random
    }

    /// The generator's own sequence from a state.
    pub(crate) fn from_state(state: u64) -> Self {
        Random { state }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, all alike (but for one part in 2^64 divided by `bound`); 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// The numbers below `count` in random order.
    pub fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        self.shuffle(&mut order);
        order
    }

    /// Puts `items` into random order (Fisher and Yates; Durstenfeld 1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    /// The first draws of the published generator with the seed 1234567 (the test values of its author's C code).
    #[test]
    fn draws_are_those_of_splitmix64() {
        let mut random = Random::from_state(1_234_567);
        let draws: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(draws, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn orders_hold_every_number_once_and_differ_by_seed_and_purpose() {
        let order = |seed, purpose| Random::new(seed, purpose).order(50);
        let mut sorted = order(1, "a");
        assert_eq!(sorted, order(1, "a"));
        assert!(sorted != order(2, "a") && sorted != order(1, "b"));
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert!(Random::new(3, "").order(0).is_empty());
        // 6,000 draws of six faces: each 1,000 times, give or take five standard deviations.
        let mut faces = [0; 6];
        let mut random = Random::new(9, "dice");
        (0..6000).for_each(|_| faces[random.below(6)] += 1);
        assert!(faces.iter().all(|n| (855..1145).contains(n)), "{faces:?}");
    }
}
