//! Tests of what a report says and that it can be read.

mod escaping;
mod figures;
mod markup;
mod pages;
mod pictures;
mod redaction;
mod sample;
mod verdicts;
