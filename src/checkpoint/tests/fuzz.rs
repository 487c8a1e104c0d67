//! Hostile files by random mutation. The `safetensors` crate is the judge: we accept nothing that it refuses, read
//! what it reads, and refuse beyond it only keys that occur twice.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use safetensors::SafeTensors;
use tempfile::tempdir;

use super::tensor_file::tensors;
use super::{contents, serialized, sharded_model};
use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::header::parse;

/// One act of damage.
#[derive(Clone, Debug)]
pub(super) enum Mutation {
    Set(Index, u8),
    FlipBit(Index, u8),
    SetLength(u64),
    NudgeLength(i8),
    Remove(Index, u8),
    Insert(Index, Vec<u8>),
    Duplicate(Index, Index),
    Truncate(Index),
}

/// Damage of all kinds, with a bias to bytes that mean something in a header.
pub(super) fn mutation() -> impl Strategy<Value = Mutation> {
    let meaningful = prop::sample::select(b"{}[]\",:0123456789eE.-+ \\nFBUIu\0\xff".to_vec());
    let token = prop::sample::select(vec![
        "18446744073709551615",
        "-1",
        "{}",
        "[]",
        "null",
        "\"F32\"",
        ",",
        "0",
        "\"\"",
        "9",
        "\\u0061",
    ]);
    prop_oneof![
        4 => (any::<Index>(), meaningful).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        2 => (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
        1 => any::<u64>().prop_map(|length| Mutation::SetLength(length >> (length % 64))),
        1 => any::<i8>().prop_map(Mutation::NudgeLength),
        2 => (any::<Index>(), 1u8..9).prop_map(|(at, count)| Mutation::Remove(at, count)),
        2 => (any::<Index>(), token).prop_map(|(at, token)| Mutation::Insert(at, token.into())),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Duplicate(from, to)),
        1 => any::<Index>().prop_map(Mutation::Truncate),
    ]
}

/// Damages `file`, mostly within its first `focus` bytes. Unless `keep_length` is false the header's length follows
/// what is inserted and removed, so that the damage reaches the parser.
pub(super) fn mutate(file: &mut Vec<u8>, focus: usize, mutations: &[Mutation], keep_length: bool) {
    for mutation in mutations {
        let before = file.len();
        let reach = focus.clamp(1, before.max(1));
        match mutation {
            _ if file.len() < 9 => return,
            Mutation::Set(at, byte) => file[at.index(reach)] = *byte,
            Mutation::FlipBit(at, bit) => file[at.index(reach)] ^= 1 << bit,
            Mutation::SetLength(length) => file[..8].copy_from_slice(&length.to_le_bytes()),
            Mutation::NudgeLength(by) => {
                let length = u64::from_le_bytes(file[..8].try_into().unwrap()).wrapping_add_signed((*by).into());
                file[..8].copy_from_slice(&length.to_le_bytes());
            }
            Mutation::Remove(at, count) => {
                let start = 8 + at.index(reach);
                file.drain(start.min(before)..(start + usize::from(*count)).min(before));
            }
            Mutation::Insert(at, token) => {
                let start = (8 + at.index(reach)).min(before);
                file.splice(start..start, token.iter().copied());
            }
            Mutation::Duplicate(from, to) => {
                let (a, b) = (8 + from.index(reach), 8 + to.index(reach));
                let (start, end) = (a.min(b).min(before), a.max(b).min(before));
                let piece = file[start..end].to_vec();
                file.splice(end..end, piece);
            }
            Mutation::Truncate(at) => file.truncate(at.index(before)),
        }
        let structural = matches!(mutation, Mutation::Remove(..) | Mutation::Insert(..) | Mutation::Duplicate(..));
        if keep_length && structural {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap());
            let grown = length.wrapping_add_signed(file.len() as i64 - before as i64);
            file[..8].copy_from_slice(&grown.to_le_bytes());
        }
    }
}

/// Compares our verdict on a file with that of the `safetensors` crate.
fn compare(file: &[u8]) -> std::result::Result<(), TestCaseError> {
    let theirs = SafeTensors::deserialize(file);
    match parse(Path::new("some/file"), file) {
        Ok(header) => {
            let theirs = match theirs {
                Ok(theirs) => theirs,
                Err(error) => return Err(TestCaseError::fail(format!("accepted, but: {error}"))),
            };
            prop_assert_eq!(header.tensors.len(), theirs.len());
            for tensor in &header.tensors {
                let view = theirs.tensor(&tensor.name).unwrap();
                prop_assert_eq!((tensor.dtype, &tensor.shape[..]), (view.dtype(), view.shape()));
                prop_assert_eq!(&file[tensor.range.clone()], view.data());
            }
        }
        Err(error) => {
            let message = error.to_string();
            prop_assert!(matches!(error, Error::File { .. }) && message.starts_with("some/file: "), "{}", message);
            prop_assert!(!message.contains('\n') || theirs.is_err());
            let stricter = message.contains("occurs twice") || message.contains("duplicate field");
            prop_assert!(theirs.is_err() || stricter, "refused without need: {}", message);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_are_read_right_or_refused(
        tensors in tensors(),
        mutations in prop::collection::vec(mutation(), 0..4),
        keep_length in any::<bool>(),
    ) {
        let mut file = serialized(&tensors, Some([("format".to_string(), "pt".to_string())].into()));
        compare(&file)?;
        let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        mutate(&mut file, header, &mutations, keep_length);
        compare(&file)?;
    }

    #[test]
    fn random_headers_are_read_right_or_refused(
        header in "[{}\\[\\]\",:0-9a-z_ \\\\]{0,40}",
        data in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        compare(&super::raw_file(&header, &data))?;
    }

    #[test]
    fn random_bytes_are_refused(file in prop::collection::vec(any::<u8>(), 0..64)) {
        compare(&file)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_directories_open_or_are_refused(
        which in any::<Index>(),
        mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let dir = tempdir().unwrap();
        sharded_model(dir.path());
        let files = contents(dir.path());
        let (name, original) = files.iter().nth(which.index(files.len())).unwrap();
        let mut damaged = original.clone();
        let focus = damaged.len();
        mutate(&mut damaged, focus, &mutations, false);
        fs::write(dir.path().join(name), damaged).unwrap();
        match Checkpoint::open(dir.path()) {
            Ok(checkpoint) => for tensor in checkpoint.tensors() {
                prop_assert_eq!(checkpoint.bytes(tensor).len(), tensor.byte_len());
            },
            Err(error) => prop_assert!(matches!(error, Error::File { .. }), "{:?}", error),
        }
    }
}
