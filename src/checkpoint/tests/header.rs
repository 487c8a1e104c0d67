//! What a header may claim, and what is said about one that lies.

use std::path::Path;

use super::{expect_input_error, raw_file};
use crate::checkpoint::header::parse;

/// Parses the header and data; the refusal must be in terms of the file and contain `fragments`.
#[track_caller]
fn refused(file: &[u8], fragments: &[&str]) {
    let result = parse(Path::new("dir/model.safetensors"), file);
    let fragments = [&["dir/model.safetensors: "], fragments].concat();
    expect_input_error(result, &fragments);
}

/// A header of one F32 tensor `w` with this shape and these offsets.
fn one(shape: &str, offsets: &str) -> String {
    format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

#[test]
fn a_length_that_lies_is_refused_without_reading_on() {
    refused(b"", &["header", "0 bytes"]);
    refused(b"1234567", &["header", "7 bytes"]);
    refused(&[0; 8], &["header", "length is 0"]);
    refused(&u64::MAX.to_le_bytes(), &["header", "18446744073709551615", "100000000"]);
    refused(&100_000_000u64.to_le_bytes(), &["header", "100000000 bytes, but only 0 follow"]);
    refused(&[&11u64.to_le_bytes()[..], b"{}        "].concat(), &["11 bytes, but only 10 follow"]);
    refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", &["git lfs pull"]);
}

#[test]
fn text_that_is_no_header_is_refused() {
    refused(&[&4u64.to_le_bytes()[..], b"{\xff\xfe}"].concat(), &["header", "UTF-8"]);
    refused(&raw_file("{", b""), &["header", "EOF"]);
    refused(&raw_file("[]", b""), &["header", "object"]);
    refused(&raw_file("{} x", b""), &["header", "trailing"]);
    refused(&raw_file(r#"{"w":3}"#, b""), &["tensor `w`"]);
    refused(&raw_file(r#"{"w":{"dtype":"F32","shape":[1]}}"#, b""), &["tensor `w`", "data_offsets"]);
    refused(&raw_file(&one("[-1]", "[0,4]"), &[0; 4]), &["tensor `w`", "-1"]);
    refused(&raw_file(&one("[1.5]", "[0,4]"), &[0; 4]), &["tensor `w`", "1.5"]);
    refused(&raw_file(&one("[1]", "[0,4,8]"), &[0; 4]), &["tensor `w`"]);
    refused(&raw_file(&one("[99999999999999999999]", "[0,4]"), &[0; 4]), &["tensor `w`"]);
    refused(&raw_file(r#"{"__metadata__":{"a":1}}"#, b""), &["__metadata__"]);
    let deep = format!(r#"{{"w":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    refused(&raw_file(&deep, b""), &["header"]);
}

#[test]
fn a_key_given_twice_is_refused() {
    let entry = r#""w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    refused(&raw_file(&format!("{{{entry},{entry}}}"), &[0; 4]), &["`w` occurs twice"]);
    let twice = r#"{"w":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}"#;
    refused(&raw_file(twice, &[0; 4]), &["tensor `w`", "duplicate", "dtype"]);
    refused(&raw_file(r#"{"__metadata__":{"a":"1","a":"2"}}"#, b""), &["`a` occurs twice"]);
    refused(&raw_file(r#"{"__metadata__":{},"__metadata__":{}}"#, b""), &["`__metadata__` occurs twice"]);
    // The same key, once spelt with an escape.
    let escaped = format!("{{{entry},{}}}", entry.replace("\"w\"", "\"\\u0077\""));
    refused(&raw_file(&escaped, &[0; 4]), &["`w` occurs twice"]);
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    refused(&raw_file(&one("[2]", "[0,4]"), &[0; 4]), &["tensor `w`", "span 4 bytes", "takes 8"]);
    refused(&raw_file(&one("[1]", "[4,0]"), &[0; 4]), &["tensor `w`", "ends at 0, before it starts at 4"]);
    refused(&raw_file(&one("[4611686018427387904,4]", "[0,0]"), b""), &["tensor `w`", "no size"]);
    refused(&raw_file(&one("[9223372036854775807]", "[0,4]"), &[0; 4]), &["tensor `w`", "no size"]);
    let unknown = one("[1]", "[0,4]").replace("F32", "F33");
    refused(&raw_file(&unknown, &[0; 4]), &["tensor `w`", "`F33` is no element type"]);
    let half_bytes = one("[3]", "[0,1]").replace("F32", "F4");
    refused(&raw_file(&half_bytes, &[0; 1]), &["tensor `w`", "whole bytes"]);
}

#[test]
fn tensors_that_do_not_fill_the_data_are_refused() {
    let two = |a: &str, b: &str| {
        let entry = |offsets: &str| format!(r#"{{"dtype":"F32","shape":[1],"data_offsets":{offsets}}}"#);
        format!(r#"{{"a":{},"b":{}}}"#, entry(a), entry(b))
    };
    refused(&raw_file(&one("[2]", "[0,8]"), &[0; 7]), &["tensor `w`", "ends at 8", "7 bytes", "cut short"]);
    refused(&raw_file(&one("[1]", "[0,4]"), &[0; 5]), &["data", "end at byte 4", "5 bytes"]);
    refused(&raw_file("{}", &[0; 1]), &["data", "end at byte 0"]);
    refused(&raw_file(&two("[0,4]", "[2,6]"), &[0; 6]), &["tensor `b`", "starts at 2, inside tensor `a`"]);
    refused(&raw_file(&two("[0,4]", "[0,4]"), &[0; 4]), &["tensor `b`", "inside tensor `a`"]);
    refused(&raw_file(&two("[0,4]", "[6,10]"), &[0; 10]), &["tensor `b`", "bytes 4 to 6"]);
    refused(&raw_file(&two("[4,8]", "[8,12]"), &[0; 12]), &["tensor `a`", "bytes 0 to 4"]);
}

#[test]
fn a_right_header_is_read() {
    let text = r#"{"b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]},
        "__metadata__":{"format":"pt"},"e":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[8,8]},
        "a":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8],"unknown":[null]}}   "#;
    let header = parse(Path::new("f"), &raw_file(text, &[0; 10])).unwrap();
    let start = 8 + text.len();
    let seen: Vec<_> = header.tensors.iter().map(|t| (t.name.as_str(), t.range.clone(), t.elements())).collect();
    assert_eq!(seen, [("a", start..start + 8, 1), ("e", start + 8..start + 8, 0), ("b", start + 8..start + 10, 1)]);
    assert_eq!(header.tensors.iter().map(|t| t.element.is_some()).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(header.metadata["format"], "pt");
    assert!(parse(Path::new("f"), &raw_file("{}", b"")).unwrap().tensors.is_empty());
    assert!(parse(Path::new("f"), &raw_file(r#"{"__metadata__":null}"#, b"")).unwrap().metadata.is_empty());
}
