//! Patches: there and back bit for bit, and refused where they do not belong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use safetensors::{Dtype, SafeTensors};
use tempfile::{TempDir, tempdir};

use super::fuzz::{mutate, mutation};
use super::{Stored, contents, directory, expect_input_error, names, serialized, sharded_model, single_model, stored};
use crate::checkpoint::{
    Checkpoint, LowRank, Patch, PatchKind, PatchWriter, TensorInfo, apply_patch, revert_patch, stage_edited,
    write_edited,
};
use crate::{Element, Result};

/// Writes the edited checkpoint `out` and the patch `patch` that leads to it.
fn edit_with_patch(
    base: &Checkpoint,
    out: &Path,
    patch: &Path,
    kind: PatchKind,
    edit: impl Fn(&TensorInfo, &[u8]) -> Option<Vec<u8>>,
) -> Result<()> {
    let mut writer = PatchWriter::create(patch, kind, base, [("method".to_string(), "test".to_string())].into())?;
    let staged = stage_edited(base, out, &mut |tensor, old| {
        let new = edit(tensor, old);
        if let Some(new) = &new {
            let expected = old.chunks(width(tensor)).zip(new.chunks(width(tensor))).filter(|(old, new)| old != new);
            let before = writer.changed();
            let count = writer.record(tensor, old, new)?;
            assert_eq!(count, expected.count() as u64);
            assert_eq!(writer.changed(), before + count);
        }
        Ok(new)
    })?;
    writer.finish(staged.sha256())?.commit()?;
    staged.commit()
}

fn width(tensor: &TensorInfo) -> usize {
    tensor.dtype.bitsize() / 8
}

/// Inverts the first byte and the last of the weights of the first layer, and zeroes the second layer.
fn some_edit(tensor: &TensorInfo, old: &[u8]) -> Option<Vec<u8>> {
    let mut new = old.to_vec();
    match tensor.name.as_str() {
        "layer.0.weight" => {
            *new.first_mut()? ^= 0xff;
            *new.last_mut()? ^= 0xff;
        }
        "layer.1.weight" | "layer.1.empty" => new.fill(0),
        _ => return None,
    }
    Some(new)
}

/// A base checkpoint, its edited form and a patch between them, in one directory.
struct Case {
    dir: TempDir,
    base: Checkpoint,
    edited: Checkpoint,
    patch: PathBuf,
}

impl Case {
    fn new(kind: PatchKind) -> Self {
        let dir = tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        sharded_model(&at("base"));
        let base = Checkpoint::open(&at("base")).unwrap();
        edit_with_patch(&base, &at("edited"), &at("p"), kind, some_edit).unwrap();
        let (edited, patch) = (Checkpoint::open(&at("edited")).unwrap(), at("p"));
        Case { dir, base, edited, patch }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Checks that neither direction works and nothing is left behind.
    #[track_caller]
    fn refuses(&self, patch: &[u8], fragments: &[&str]) {
        fs::write(self.at("hostile"), patch).unwrap();
        expect_input_error(apply_patch(&self.base, &self.at("hostile"), &self.at("out")), fragments);
        assert_eq!(names(self.dir.path()), ["base", "edited", "hostile", "p"]);
    }
}

#[test]
fn a_patch_leads_there_and_back() {
    let case = Case::new(PatchKind::Reversible);
    assert_eq!(names(case.dir.path()), ["base", "edited", "p"]);
    apply_patch(&case.base, &case.patch, &case.at("again")).unwrap();
    assert_eq!(contents(&case.at("again")), contents(case.edited.dir()));
    revert_patch(&case.edited, &case.patch, &case.at("back")).unwrap();
    assert_eq!(contents(&case.at("back")), contents(case.base.dir()));
    assert_ne!(contents(case.edited.dir()), contents(case.base.dir()));

    let patch = Patch::open(&case.patch).unwrap();
    assert_eq!(patch.kind(), PatchKind::Reversible);
    assert_eq!((patch.base_sha256(), patch.result_sha256()), (case.base.sha256(), case.edited.sha256()));
    assert_eq!(patch.metadata()["method"], "test");
    let zeroed = stored("", Dtype::F16, &[15], 4).bytes.chunks(2).filter(|pair| pair != b"\0\0").count();
    assert_eq!(patch.changes().collect::<Vec<_>>(), [("layer.0.weight", 2), ("layer.1.weight", zeroed)]);
}

#[test]
fn anyone_can_open_a_patch() {
    let case = Case::new(PatchKind::Reversible);
    let bytes = fs::read(&case.patch).unwrap();
    let opened = SafeTensors::deserialize(&bytes).unwrap();
    let positions = opened.tensor("positions/layer.0.weight").unwrap();
    assert_eq!((positions.dtype(), positions.shape()), (Dtype::U32, &[2][..]));
    assert_eq!(positions.data(), [0, 0, 0, 0, 14, 0, 0, 0]);
    let original = stored("", Dtype::F32, &[15], 1).bytes;
    let ends = [&original[..4], &original[56..]].concat();
    assert_eq!(opened.tensor("old/layer.0.weight").unwrap().data(), ends);
    let mut inverted = ends;
    inverted[0] ^= 0xff;
    inverted[7] ^= 0xff;
    assert_eq!(opened.tensor("new/layer.0.weight").unwrap().data(), inverted);
}

#[test]
fn a_forward_patch_holds_no_old_values() {
    let case = Case::new(PatchKind::Forward);
    let bytes = fs::read(&case.patch).unwrap();
    assert!(SafeTensors::deserialize(&bytes).unwrap().names().iter().all(|name| !name.starts_with("old/")));
    apply_patch(&case.base, &case.patch, &case.at("again")).unwrap();
    assert_eq!(contents(&case.at("again")), contents(case.edited.dir()));
    let reverted = revert_patch(&case.edited, &case.patch, &case.at("back"));
    expect_input_error(reverted, &["kind", "cannot be reverted"]);
}

#[cfg(unix)]
#[test]
fn a_reversible_patch_is_secret() {
    use std::os::unix::fs::PermissionsExt;
    for (kind, secret) in [(PatchKind::Reversible, true), (PatchKind::Forward, false)] {
        let mode = fs::metadata(Case::new(kind).patch).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode == 0o600, secret, "{mode:o}");
    }
}

#[test]
fn a_patch_is_refused_where_it_does_not_belong() {
    let case = Case::new(PatchKind::Reversible);
    let (base, edited) = (case.base.sha256(), case.edited.sha256());
    let applied = apply_patch(&case.edited, &case.patch, &case.at("out"));
    expect_input_error(applied, &["base_sha256", base, edited]);
    let reverted = revert_patch(&case.base, &case.patch, &case.at("out"));
    expect_input_error(reverted, &["result_sha256", base, edited]);
    expect_input_error(apply_patch(&case.base, &case.at("absent"), &case.at("out")), &["absent"]);
    expect_input_error(apply_patch(&case.base, &case.patch, &case.at("edited")), &["exists already"]);
    let weights = case.base.files()[0].path();
    expect_input_error(apply_patch(&case.base, weights, &case.at("out")), &["format", "efface-patch"]);
    assert_eq!(names(case.dir.path()), ["base", "edited", "p"]);
}

#[test]
fn misuse_of_the_writer_is_refused_and_leaves_nothing() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    sharded_model(&at("base"));
    let base = Checkpoint::open(&at("base")).unwrap();
    let begin = |metadata| PatchWriter::create(&at("p"), PatchKind::Forward, &base, metadata);
    expect_input_error(begin([("kind".to_string(), "x".to_string())].into()), &["`kind`"]);
    let mut writer = begin(BTreeMap::new()).unwrap();
    let tensor = base.tensor("layer.0.bias").unwrap();
    let (old, new) = (base.bytes(tensor), vec![1; 14]);
    expect_input_error(writer.record(tensor, old, &new[1..]), &["layer.0.bias", "13"]);
    expect_input_error(writer.record(tensor, &old[2..], &new[2..]), &["layer.0.bias", "12"]);
    writer.record(tensor, old, &new).unwrap();
    expect_input_error(writer.record(tensor, old, &new), &["before"]);
    drop(writer);
    assert_eq!(names(dir.path()), ["base"]);
    directory(dir.path(), &[("p", b"")]);
    expect_input_error(begin(BTreeMap::new()), &["exists already"]);
}

/// The file of a patch for `case` with these vectors; `keys` replaces metadata.
fn hostile(case: &Case, vectors: &[(&str, Dtype, &[usize], &[u8])], keys: &[(&str, &str)]) -> Vec<u8> {
    let own = [
        ("format", "efface-patch"),
        ("version", "1"),
        ("kind", "forward"),
        ("base_sha256", case.base.sha256()),
        ("result_sha256", case.edited.sha256()),
    ];
    let metadata = own.iter().chain(keys).map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let store = |&(name, dtype, shape, bytes): &(&str, Dtype, &[usize], &[u8])| Stored {
        name: name.into(),
        dtype,
        shape: shape.into(),
        bytes: bytes.into(),
    };
    serialized(&vectors.iter().map(store).collect::<Vec<_>>(), Some(metadata))
}

#[test]
fn metadata_that_is_not_a_patchs_is_refused() {
    let case = Case::new(PatchKind::Reversible);
    let refuses = |key: &str, value: &str| case.refuses(&hostile(&case, &[], &[(key, value)]), &[key, value]);
    refuses("format", "pt");
    refuses("version", "3");
    refuses("kind", "sideways");
    refuses("base_sha256", "12");
    refuses("base_sha256", &"A".repeat(64));
    refuses("result_sha256", &"g".repeat(64));
    refuses("base_sha256", &"0".repeat(64));
    // Well-formed and empty, but it does not lead where it promises.
    case.refuses(&hostile(&case, &[], &[]), &["result_sha256", "damaged", case.base.sha256()]);
}

#[test]
fn vectors_that_contradict_each_other_are_refused() {
    let case = Case::new(PatchKind::Reversible);
    let one = 1u32.to_le_bytes();
    let refuses = |vectors: &[(&str, Dtype, &[usize], &[u8])], fragments: &[&str]| {
        case.refuses(&hostile(&case, vectors, &[]), fragments);
    };
    let positions = ("positions/layer.0.bias", Dtype::U32, &[1][..], &one[..]);
    let new = ("new/layer.0.bias", Dtype::BF16, &[1][..], &[1, 2][..]);
    refuses(&[("layer.0.bias", Dtype::BF16, &[1], &[0, 0])], &["`layer.0.bias`", "no part of a patch"]);
    refuses(&[positions], &["`new/layer.0.bias` is missing"]);
    refuses(&[new], &["`positions/layer.0.bias` is missing"]);
    refuses(&[positions, ("new/layer.0.bias", Dtype::BF16, &[2], &[0; 4])], &["`new/layer.0.bias`", "[2]", "[1]"]);
    refuses(&[("positions/layer.0.bias", Dtype::I32, &[1], &one), new], &["positions are U32 or U64"]);
    let square = ("new/layer.0.bias", Dtype::BF16, &[1, 1][..], &[1, 2][..]);
    refuses(&[("positions/layer.0.bias", Dtype::U32, &[1, 1], &one), square], &["[1, 1]", "vector"]);
    let single = ("new/layer.0.bias", Dtype::BF16, &[][..], &[1, 2][..]);
    refuses(&[("positions/layer.0.bias", Dtype::U32, &[], &one), single], &["[]", "vector"]);
    refuses(&[positions, new, ("old/layer.0.bias", Dtype::BF16, &[1], &[0, 0])], &["no old values"]);
    case.refuses(&hostile(&case, &[positions, new], &[("kind", "reversible")]), &["`old/layer.0.bias` is missing"]);
    let old = ("old/layer.0.bias", Dtype::F16, &[1][..], &[0, 0][..]);
    case.refuses(&hostile(&case, &[positions, new, old], &[("kind", "reversible")]), &["old/layer.0.bias", "BF16"]);
}

#[test]
fn changes_that_do_not_fit_the_checkpoint_are_refused() {
    let case = Case::new(PatchKind::Reversible);
    let change = |name: &str, dtype: Dtype, places: &[u64]| {
        let (positions, new) = (format!("positions/{name}"), format!("new/{name}"));
        let bytes: Vec<u8> = places.iter().flat_map(|place| place.to_le_bytes()).collect();
        let values = vec![1; places.len() * dtype.bitsize() / 8];
        let shape = [places.len()];
        hostile(&case, &[(&positions, Dtype::U64, &shape, &bytes), (&new, dtype, &shape, &values)], &[])
    };
    case.refuses(&change("layer.7", Dtype::F32, &[0]), &["`layer.7`", "no such tensor"]);
    case.refuses(&change("layer.0.bias", Dtype::F16, &[0]), &["`layer.0.bias`", "F16", "BF16"]);
    case.refuses(&change("layer.0.bias", Dtype::BF16, &[7]), &["position 7 is outside", "7 elements"]);
    case.refuses(&change("layer.0.bias", Dtype::BF16, &[0, u64::MAX]), &["18446744073709551615 is outside"]);
    case.refuses(&change("layer.0.bias", Dtype::BF16, &[3, 2]), &["position 2 comes after 3"]);
    case.refuses(&change("layer.0.bias", Dtype::BF16, &[3, 3]), &["position 3 comes after 3"]);
    case.refuses(&change("layer.1.empty", Dtype::F32, &[0]), &["outside", "0 elements"]);
    case.refuses(&change("layer.0.bias", Dtype::BF16, &[3]), &["damaged"]);
}

/// A weight tensor of odd size and an edit of some of its elements, any bits.
fn edited_tensor() -> impl Strategy<Value = (Dtype, Vec<u8>, Vec<(Index, u64)>)> {
    let dtype = prop::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::U8, Dtype::I64]);
    (dtype, 0usize..150).prop_flat_map(|(dtype, count)| {
        let bytes = prop::collection::vec(any::<u8>(), count * dtype.bitsize() / 8);
        (Just(dtype), bytes, prop::collection::vec(any::<(Index, u64)>(), 0..200))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_edits_make_the_round_trip(tensors in prop::collection::vec(edited_tensor(), 1..4)) {
        let dir = tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let stored: Vec<Stored> = tensors.iter().enumerate().map(|(index, (dtype, bytes, _))| Stored {
            name: format!("t{index}"),
            dtype: *dtype,
            shape: vec![bytes.len() * 8 / dtype.bitsize()],
            bytes: bytes.clone(),
        }).collect();
        single_model(&at("base"), &stored);
        let base = Checkpoint::open(&at("base")).unwrap();
        let edit = |tensor: &TensorInfo, old: &[u8]| {
            let mut new = old.to_vec();
            let changes = &tensors[tensor.name[1..].parse::<usize>().unwrap()].2;
            for (place, value) in changes.iter().filter(|_| !old.is_empty()) {
                let start = place.index(tensor.elements()) * width(tensor);
                new[start..start + width(tensor)].copy_from_slice(&value.to_le_bytes()[..width(tensor)]);
            }
            Some(new)
        };
        edit_with_patch(&base, &at("edited"), &at("p"), PatchKind::Reversible, edit).unwrap();
        let edited = Checkpoint::open(&at("edited")).unwrap();
        for tensor in edited.tensors() {
            prop_assert_eq!(edited.bytes(tensor), &edit(tensor, base.bytes(tensor)).unwrap()[..]);
        }
        apply_patch(&base, &at("p"), &at("again")).unwrap();
        prop_assert_eq!(contents(&at("again")), contents(&at("edited")));
        revert_patch(&edited, &at("p"), &at("back")).unwrap();
        prop_assert_eq!(contents(&at("back")), contents(&at("base")));
    }
}

#[test]
fn damaged_patches_are_refused_or_lead_to_the_right_result() {
    let case = Case::new(PatchKind::Reversible);
    let original = fs::read(&case.patch).unwrap();
    let right = contents(case.edited.dir());
    let strategy = (prop::collection::vec(mutation(), 1..3), any::<bool>());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let outcome = runner.run(&strategy, |(mutations, keep_length)| {
        let mut damaged = original.clone();
        mutate(&mut damaged, original.len(), &mutations, keep_length);
        fs::write(case.at("damaged"), damaged).unwrap();
        match apply_patch(&case.base, &case.at("damaged"), &case.at("out")) {
            Ok(()) => {
                prop_assert_eq!(contents(&case.at("out")), right.clone());
                fs::remove_dir_all(case.at("out")).unwrap();
            }
            Err(error) => {
                prop_assert!(error.is_input(), "{:?}", error);
                prop_assert_eq!(names(case.dir.path()), ["base", "damaged", "edited", "p"]);
            }
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn a_tensor_stored_twice_is_patched_twice() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    single_model(&at("base"), &[stored("embed", Dtype::BF16, &[3, 3], 0), stored("head", Dtype::BF16, &[3, 3], 0)]);
    let base = Checkpoint::open(&at("base")).unwrap();
    let flip = |_: &TensorInfo, old: &[u8]| Some(old.iter().map(|byte| byte ^ 1).collect());
    edit_with_patch(&base, &at("edited"), &at("p"), PatchKind::Reversible, flip).unwrap();
    let changes: Vec<_> = Patch::open(&at("p")).unwrap().changes().map(|(name, n)| (name.to_string(), n)).collect();
    assert_eq!(changes, [("embed".to_string(), 9), ("head".to_string(), 9)]);
    write_edited(&base, &at("copy"), &mut |_, _| Ok(None)).unwrap();
    assert_eq!(contents(&at("copy")), contents(base.dir()));
}

/// Three matrices `[30, 40]` of each type, and a change of rank 2 that takes some elements to another exponent.
fn matrices() -> (Vec<Stored>, LowRank) {
    let mut random = crate::random::Random::new(std::process::id().into(), "matrices");
    let mut draw = |count: usize, scale: f32| -> Vec<f32> {
        (0..count).map(|_| (random.below(2001) as f32 / 1000.0 - 1.0) * scale).collect()
    };
    let types = [(Dtype::F32, Element::F32), (Dtype::BF16, Element::Bf16), (Dtype::F16, Element::F16)];
    let tensors = types.map(|(dtype, element)| Stored {
        name: format!("w.{element:?}"),
        dtype,
        shape: vec![30, 40],
        bytes: element.encode(&draw(1200, 0.1)),
    });
    let change = LowRank::new([30, 40, 2], draw(60, 1.0), &draw(80, 0.5)).unwrap();
    (tensors.to_vec(), change)
}

/// Writes the matrices, changes them and records it: the base and the edited checkpoint, and the patch's path.
fn low_rank_case(dir: &TempDir, kind: PatchKind) -> (Checkpoint, Checkpoint, PathBuf) {
    let at = |name: &str| dir.path().join(name);
    let (tensors, change) = matrices();
    single_model(&at("base"), &tensors);
    let base = Checkpoint::open(&at("base")).unwrap();
    let mut writer = PatchWriter::create(&at("p"), kind, &base, Default::default()).unwrap();
    let staged = stage_edited(&base, &at("edited"), &mut |tensor, old| {
        let new = change.add(tensor.element.unwrap(), old)?;
        let count = writer.record_low_rank(tensor, old, &new, &change)?;
        let differ = old.chunks(width(tensor)).zip(new.chunks(width(tensor))).filter(|(old, new)| old != new).count();
        assert_eq!(count, differ as u64);
        expect_input_error(writer.record(tensor, old, &new), &["before"]);
        expect_input_error(writer.record_low_rank(tensor, old, &new, &change), &["before"]);
        Ok(Some(new))
    })
    .unwrap();
    writer.finish(staged.sha256()).unwrap().commit().unwrap();
    staged.commit().unwrap();
    (base, Checkpoint::open(&at("edited")).unwrap(), at("p"))
}

#[test]
fn factors_lead_there_and_back_bit_for_bit() {
    let dir = tempdir().unwrap();
    let (base, edited, patch) = low_rank_case(&dir, PatchKind::Reversible);
    apply_patch(&base, &patch, &dir.path().join("again")).unwrap();
    assert_eq!(contents(&dir.path().join("again")), contents(edited.dir()));
    revert_patch(&edited, &patch, &dir.path().join("back")).unwrap();
    assert_eq!(contents(&dir.path().join("back")), contents(base.dir()));
    let opened = Patch::open(&patch).unwrap();
    assert_eq!(opened.metadata()["version"], "2");
    assert!(opened.changes().all(|(_, count)| count == 1200));
    let bytes = fs::read(&patch).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let with = |prefix: &str| file.names().iter().filter(|name| name.starts_with(prefix)).count();
    assert_eq!([with("left/"), with("right/"), with("new/")], [3, 3, 0]);
    // Rounding loses something: without corrections it would not come back.
    assert!(with("old/") > 0 && with("old/") == with("positions/"));
}

#[test]
fn a_forward_patch_holds_no_factors_and_what_is_not_the_product_is_kept_by_elements() {
    let dir = tempdir().unwrap();
    let (base, edited, patch) = low_rank_case(&dir, PatchKind::Forward);
    let opened = Patch::open(&patch).unwrap();
    assert_eq!(opened.metadata()["version"], "1");
    let bytes = fs::read(&patch).unwrap();
    let names =
        SafeTensors::deserialize(&bytes).unwrap().names().iter().map(|name| name.to_string()).collect::<Vec<_>>();
    assert!(names.iter().all(|name| name.starts_with("new/") || name.starts_with("positions/")), "{names:?}");
    apply_patch(&base, &patch, &dir.path().join("again")).unwrap();
    assert_eq!(contents(&dir.path().join("again")), contents(edited.dir()));
    // One element more is changed than the product changes.
    let (_, change) = matrices();
    let other = dir.path().join("other");
    let mut writer = PatchWriter::create(&other, PatchKind::Reversible, &base, Default::default()).unwrap();
    let staged = stage_edited(&base, &dir.path().join("more"), &mut |tensor, old| {
        let mut new = change.add(tensor.element.unwrap(), old)?;
        new[0] ^= 1;
        writer.record_low_rank(tensor, old, &new, &change)?;
        Ok(Some(new))
    })
    .unwrap();
    writer.finish(staged.sha256()).unwrap().commit().unwrap();
    staged.commit().unwrap();
    assert_eq!(Patch::open(&other).unwrap().metadata()["version"], "1");
    let more = Checkpoint::open(&dir.path().join("more")).unwrap();
    revert_patch(&more, &other, &dir.path().join("back")).unwrap();
    assert_eq!(contents(&dir.path().join("back")), contents(base.dir()));
}

#[test]
fn factors_that_contradict_the_checkpoint_or_themselves_are_refused() {
    let case = Case::new(PatchKind::Reversible);
    let zeros = vec![0; 4096];
    let f32s = |count: usize| &zeros[..4 * count];
    let own: &[(&str, &str)] = &[("version", "2"), ("kind", "reversible")];
    for (vectors, fragment) in [
        (&[("left/layer.0.weight", Dtype::F32, &[3, 1][..], f32s(3))][..], "`right/layer.0.weight` is missing"),
        (&[("right/layer.0.weight", Dtype::F32, &[5, 1], f32s(5))], "`left/layer.0.weight` is missing"),
        (
            &[
                ("left/layer.0.weight", Dtype::F32, &[3, 1], f32s(3)),
                ("right/layer.0.weight", Dtype::F32, &[5, 2], f32s(10)),
            ],
            "the second of both factors the same",
        ),
        (
            &[
                ("left/layer.0.weight", Dtype::F32, &[3], f32s(3)),
                ("right/layer.0.weight", Dtype::F32, &[5, 1], f32s(5)),
            ],
            "F32 of two axes",
        ),
        (
            &[
                ("left/layer.0.weight", Dtype::F32, &[4, 1], f32s(4)),
                ("right/layer.0.weight", Dtype::F32, &[5, 1], f32s(5)),
            ],
            "a matrix [4, 5]",
        ),
        (
            &[
                ("left/layer.0.weight", Dtype::F32, &[3, 1], f32s(3)),
                ("right/layer.0.weight", Dtype::F32, &[5, 1], f32s(5)),
                ("old/layer.0.weight", Dtype::F32, &[1], f32s(1)),
            ],
            "`positions/layer.0.weight` is missing",
        ),
        (
            &[
                ("left/layer.0.weight", Dtype::F32, &[3, 1], f32s(3)),
                ("right/layer.0.weight", Dtype::F32, &[5, 1], f32s(5)),
                ("new/layer.0.weight", Dtype::F32, &[1], f32s(1)),
            ],
            "beside factors",
        ),
    ] {
        case.refuses(&hostile(&case, vectors, own), &[fragment]);
    }
    let factors: &[(&str, Dtype, &[usize], &[u8])] = &[
        ("left/layer.0.weight", Dtype::F32, &[3, 1], f32s(3)),
        ("right/layer.0.weight", Dtype::F32, &[5, 1], f32s(5)),
    ];
    case.refuses(&hostile(&case, factors, &[("version", "2")]), &["a forward patch holds no factors"]);
}
