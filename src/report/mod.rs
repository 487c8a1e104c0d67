//! What a run has to say: pictures and pages for a person, JSON for a program, tables for a terminal.
//!
//! Nothing here measures or decides. The command line fills in plain data ([`ForgetReport`], [`EvalReport`]) and this
//! module writes it down: sentences from the figures ([`forget::Verdict`]), a page that needs no network and no script
//! ([`html::Document`] with pictures from [`svg`]), JSON that reads back into the same data, and text tables
//! ([`table::Table`]). Texts come from files that nobody vouches for, so every one of them passes through [`escape`].

pub mod bench;
pub mod escape;
pub mod eval;
pub mod forget;
pub mod format;
pub mod html;
pub mod neighbours;
mod number;
mod provenance;
pub mod scores;
pub mod svg;
pub mod table;
mod write;

pub use eval::EvalReport;
pub use forget::ForgetReport;
pub use write::write_report;

/// Data of ours as indented JSON. Serialising fails only for maps whose keys are no strings, which none of ours are;
/// should that change, the text says so in a form that programs can read.
fn to_json<T: serde::Serialize>(data: &T) -> String {
    serde_json::to_string_pretty(data).unwrap_or_else(|e| serde_json::json!({ "error": e.to_string() }).to_string())
}

#[cfg(test)]
mod tests;
