//! Tensor files: written in any order, read by our reader and by the `safetensors` crate.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};
use tempfile::tempdir;

use super::{Stored, expect_input_error, names};
use crate::checkpoint::{AtomicFile, Declaration, TensorFile, TensorFileWriter};

/// Up to six tensors of odd types and sizes.
pub(super) fn tensors() -> impl Strategy<Value = Vec<Stored>> {
    let dtypes = vec![Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::U8, Dtype::I64];
    let tensor = (prop::sample::select(dtypes), prop::collection::vec(0usize..6, 0..4));
    let tensor = tensor.prop_flat_map(|(dtype, shape)| {
        let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let bytes = prop::collection::vec(any::<u8>(), len);
        ("[a-c\"\\\\ü.]{0,6}", bytes).prop_map(move |(name, bytes)| Stored { name, dtype, shape: shape.clone(), bytes })
    });
    prop::collection::vec(tensor, 1..7).prop_map(|tensors| {
        let unique: BTreeMap<String, Stored> =
            tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        unique.into_values().collect()
    })
}

fn declarations(tensors: &[Stored]) -> Vec<Declaration> {
    let declare =
        |tensor: &Stored| Declaration { name: tensor.name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone() };
    tensors.iter().map(declare).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn any_order_of_pieces_gives_the_same_file(
        tensors in tensors(),
        note in "[ -~ü\n]{0,9}",
        (order, cut) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let dir = tempdir().unwrap();
        let metadata: BTreeMap<String, String> = [("kind".into(), note), ("version".into(), "1".into())].into();
        let (forward, mixed) = (dir.path().join("a"), dir.path().join("b"));
        let mut writer =
            TensorFileWriter::new(AtomicFile::create(&forward).unwrap(), &declarations(&tensors), &metadata).unwrap();
        for tensor in &tensors {
            writer.append(&tensor.name, &tensor.bytes).unwrap();
        }
        writer.commit().unwrap();

        let mut writer =
            TensorFileWriter::new(AtomicFile::create(&mixed).unwrap(), &declarations(&tensors), &metadata).unwrap();
        let mut rotated: Vec<_> = tensors.iter().rev().collect();
        rotated.rotate_left(order.index(tensors.len()));
        let cut_of = |tensor: &Stored| cut.index(tensor.bytes.len() + 1);
        for tensor in &rotated {
            writer.append(&tensor.name, &tensor.bytes[..cut_of(tensor)]).unwrap();
        }
        for tensor in &rotated {
            writer.append(&tensor.name, &tensor.bytes[cut_of(tensor)..]).unwrap();
        }
        writer.commit().unwrap();

        let bytes = fs::read(&forward).unwrap();
        prop_assert_eq!(&bytes, &fs::read(&mixed).unwrap());
        let ours = TensorFile::open(&forward).unwrap();
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        prop_assert_eq!(ours.metadata(), &metadata);
        prop_assert_eq!(ours.tensors().len(), tensors.len());
        for tensor in &tensors {
            let info = ours.tensor(&tensor.name).unwrap();
            prop_assert_eq!((info.dtype, &info.shape), (tensor.dtype, &tensor.shape));
            prop_assert_eq!(ours.bytes(info), &tensor.bytes[..]);
            prop_assert_eq!(theirs.tensor(&tensor.name).unwrap().data(), &tensor.bytes[..]);
            let width = tensor.dtype.bitsize() / 8;
            prop_assert!(info.range.start.is_multiple_of(width), "data is aligned to its elements");
        }
    }
}

#[test]
fn misuse_is_refused_and_leaves_nothing() {
    let dir = tempdir().unwrap();
    let target = dir.path().join("f.safetensors");
    let declare = |name: &str, dtype, shape: &[usize]| Declaration { name: name.into(), dtype, shape: shape.into() };
    let declared = [declare("w", Dtype::F32, &[2]), declare("h", Dtype::BF16, &[1])];
    let begin = |declared: &[Declaration]| {
        TensorFileWriter::new(AtomicFile::create(&target).unwrap(), declared, &BTreeMap::new())
    };
    let mut writer = begin(&declared).unwrap();
    expect_input_error(writer.append("v", &[]), &["`v`", "not declared"]);
    expect_input_error(writer.append_f32("v", &[]), &["`v`", "not declared"]);
    expect_input_error(writer.append_f32("h", &[]), &["`h`", "BF16"]);
    writer.append_f32("w", &[1.0]).unwrap();
    expect_input_error(writer.append("w", &[0; 5]), &["`w`", "5 bytes after 4"]);
    writer.append("h", &[0; 2]).unwrap();
    expect_input_error(writer.commit(), &["`w`", "only 4 of its 8 bytes"]);

    expect_input_error(begin(&[declared[0].clone(), declared[0].clone()]), &["`w`", "twice"]);
    expect_input_error(begin(&[declare("__metadata__", Dtype::F32, &[1])]), &["reserved"]);
    expect_input_error(begin(&[declare("w", Dtype::F32, &[1 << 62])]), &["no size"]);
    let huge = declare("w", Dtype::U8, &[usize::MAX / 2 + 1]);
    expect_input_error(begin(&[huge.clone(), Declaration { name: "v".into(), ..huge }]), &["no size"]);
    assert_eq!(names(dir.path()), [""; 0]);
}
