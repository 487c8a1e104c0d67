//! The search for NaN and infinity against the standard library's classification.

use half::{bf16, f16};
use proptest::prelude::*;

use crate::Element;
use crate::checkpoint::finite::first_non_finite;

#[test]
fn every_16_bit_pattern_is_classified() {
    for bits in 0..=u16::MAX {
        let bytes = bits.to_le_bytes();
        let expected = |finite: bool| (!finite).then_some(0);
        assert_eq!(
            first_non_finite(Element::F16, &bytes),
            expected(f16::from_bits(bits).is_finite()),
            "f16 {bits:04x}"
        );
        assert_eq!(
            first_non_finite(Element::Bf16, &bytes),
            expected(bf16::from_bits(bits).is_finite()),
            "bf16 {bits:04x}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_first_of_several_is_found(
        len in 1usize..900_001,
        faults in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut numbers = vec![f32::MAX; len];
        let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0xff80_0001)];
        let places: Vec<usize> = faults.iter().map(|fault| fault.index(len)).collect();
        for (&place, value) in places.iter().zip(bad) {
            numbers[place] = value;
        }
        prop_assert_eq!(first_non_finite(Element::F32, bytemuck::cast_slice(&numbers)), places.iter().min().copied());
    }
}
