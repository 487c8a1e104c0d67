//! The hash that identifies a checkpoint: of `config.json` and the weight files, names included.
//!
//! It is SHA-256 over what `sha256sum` prints for these files, sorted by name; in a shell, inside the directory:
//! `LC_ALL=C sha256sum config.json model*.safetensors | sha256sum`.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The hash of one file.
pub(super) type FileHash = [u8; 32];

/// Hashes the contents of one file.
pub(super) fn of_bytes(bytes: &[u8]) -> FileHash {
    Sha256::digest(bytes).into()
}

/// Joins the hashes of named files to one, in lower-case hexadecimal.
pub(super) fn combined(mut files: Vec<(String, FileHash)>) -> String {
    files.sort();
    let mut listing = Sha256::new();
    for (name, hash) in &files {
        listing.update(format!("{}  {name}\n", hexadecimal(hash)));
    }
    hexadecimal(&listing.finalize().into())
}

/// A hash as text.
fn hexadecimal(hash: &FileHash) -> String {
    hash.iter().fold(String::with_capacity(2 * hash.len()), |mut text, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
