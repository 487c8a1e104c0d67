//! Reading, writing and patching checkpoints: Hugging Face model directories with safetensors weights.
//!
//! ```text
//! Checkpoint::open ─▶ tensors(), bytes(), mapped(), sha256()             read.rs, tensor_file.rs, header.rs, hash.rs
//!       │
//!       ▼ stage_edited(base, out, edit) ─▶ StagedCheckpoint ─▶ commit()  write.rs, copy.rs, staging.rs
//!       │           └─ PatchWriter::record(tensor, old, new)             patch_writer.rs
//!       ▼
//! apply_patch, revert_patch                                              patch.rs, changes.rs
//! ```
//!
//! **Reading.** Weight files are mapped into memory, never loaded: [`Checkpoint::bytes`] and [`Checkpoint::mapped`]
//! are views. A header is checked completely before a view is handed out, so that a hostile file is an
//! [`Error::File`](crate::Error::File) that names the tensor and the contradiction. As with every mapped file, the
//! checkpoint must not be changed while it is open.
//!
//! **Writing.** [`write_edited`] asks a callback for the new bytes of each tensor and keeps everything else: headers
//! verbatim, so that an unedited file is byte-identical; tokenizer and all other files copied. The directory is built
//! beside its target, flushed to disk and renamed: there is the old state or the new, never something between.
//! [`AtomicFile`] gives the same promise for single files.
//!
//! **Patches.** [`PatchWriter`] collects the elements that changed; [`apply_patch`] and [`revert_patch`] replay them
//! bit for bit. A change of low rank is kept as its factors ([`LowRank`]). The format is described in [`patch`].
//!
//! **Tensor files.** [`TensorFileWriter`] writes safetensors files that are too large for memory, tensor by tensor in
//! any order; [`TensorFile`] reads any safetensors file. Importance is stored this way.

mod atomic;
mod changes;
mod copy;
mod finite;
mod hash;
mod header;
mod index;
mod low_rank;
pub mod patch;
mod patch_writer;
mod read;
mod staging;
mod temporary;
mod tensor_file;
mod tensor_writer;
mod unique_map;
mod write;

#[cfg(test)]
mod tests;

pub use atomic::AtomicFile;
pub use header::{Declaration, TensorInfo};
pub use low_rank::LowRank;
pub use patch::{Patch, PatchKind, apply_patch, revert_patch};
pub use patch_writer::PatchWriter;
pub use read::Checkpoint;
/// The element types that a safetensors header can name; printed, it is that name.
pub use safetensors::Dtype;
pub(crate) use temporary::create_beside;
pub use tensor_file::{Mapped, TensorFile};
pub use tensor_writer::TensorFileWriter;
pub use write::{Edit, StagedCheckpoint, check_output, stage_edited, write_edited};
