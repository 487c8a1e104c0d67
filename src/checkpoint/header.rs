//! The header of a safetensors file: 8 bytes of length (little-endian), then JSON that gives each tensor its element
//! type, shape and place in the data that follows. What a header claims is believed only after every claim has been
//! checked against the file. Format: <https://github.com/huggingface/safetensors#format>.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use super::unique_map::UniqueMap;
use crate::{Element, Error, Result};

/// The format's own limit on the length of a header, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes that hold the header's length.
const LENGTH_BYTES: usize = 8;
/// The key that holds free text in place of a tensor.
const METADATA_KEY: &str = "__metadata__";

/// A tensor as a weight file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name in the checkpoint.
    pub name: String,
    /// The stored element type.
    pub dtype: Dtype,
    /// The element type if it is one that efface computes with; `None` for buffers such as masks and counters.
    pub element: Option<Element>,
    /// The sizes of the axes, slowest first.
    pub shape: Vec<usize>,
    /// Which of [`Checkpoint::files`](super::Checkpoint::files) holds the tensor; 0 in a lone file.
    pub file: usize,
    /// The tensor's bytes, counted from the start of that file.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// The number of elements: the product of the shape.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The stored size in bytes.
    pub fn byte_len(&self) -> usize {
        self.range.len()
    }
}

/// What a tensor file is going to hold: one of these for each tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The tensor's name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// The sizes of its axes, slowest first.
    pub shape: Vec<usize>,
}

/// A header that agrees with its file.
#[derive(Debug)]
pub(super) struct Header {
    /// Where the data begins: the length of the length field and the header.
    pub(super) data_start: usize,
    /// The free text of `__metadata__`.
    pub(super) metadata: BTreeMap<String, String>,
    /// The tensors in the order of their bytes, which lie side by side from `data_start` to the end of the file.
    pub(super) tensors: Vec<TensorInfo>,
}

/// A tensor's entry in the JSON.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// Reads and checks the header of the file `path` whose contents are `file`.
pub(super) fn parse(path: &Path, file: &[u8]) -> Result<Header> {
    let text = header_text(path, file)?;
    let data_start = LENGTH_BYTES + text.len();
    let data_len = file.len() - data_start;

    let mut json = Json::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = JsonSeed(&mut json).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    if let Err(error) = parsed {
        let place = json.current.map_or_else(|| "header".to_string(), |name| format!("tensor `{name}`"));
        return Err(Error::file(path, place, format!("the header is not what safetensors prescribes: {error}")));
    }

    let mut tensors = Vec::with_capacity(json.entries.len());
    for (name, entry) in json.entries {
        tensors.push(checked_tensor(path, name, entry, data_len)?);
    }
    tensors.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));
    check_layout(path, &tensors, data_len)?;
    for tensor in &mut tensors {
        tensor.range = tensor.range.start + data_start..tensor.range.end + data_start;
    }
    Ok(Header { data_start, metadata: json.metadata.unwrap_or_default(), tensors })
}

/// Cuts the JSON out of the file.
fn header_text<'file>(path: &Path, file: &'file [u8]) -> Result<&'file str> {
    let wrong = |problem: String| Error::file(path, "header", problem);
    if file.starts_with(b"version https://git-lfs") {
        return Err(wrong("this is a Git LFS pointer, not the weights: fetch them with `git lfs pull`".into()));
    }
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(wrong(format!(
            "the file has {} bytes; a safetensors file begins with 8 that give the header's length",
            file.len()
        )));
    };
    let length = u64::from_le_bytes(*length);
    if length == 0 {
        return Err(wrong("the header's length is 0; the shortest header is `{}`".into()));
    }
    if length > MAX_HEADER {
        return Err(wrong(format!(
            "the header's length is given as {length} bytes, more than the {MAX_HEADER} that safetensors allows"
        )));
    }
    let Some(header) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else {
        return Err(wrong(format!(
            "the header's length is given as {length} bytes, but only {} follow: the file is cut short or is no \
             safetensors file",
            rest.len()
        )));
    };
    std::str::from_utf8(header).map_err(|error| wrong(format!("the header is not UTF-8 text: {error}")))
}

/// Turns an entry into a tensor whose size and offsets agree; its range still counts from the start of the data.
fn checked_tensor(path: &Path, name: String, entry: Entry, data_len: usize) -> Result<TensorInfo> {
    let wrong = |problem: String| Error::file(path, format!("tensor `{name}`"), problem);
    let dtype = Dtype::deserialize(StrDeserializer::<serde_json::Error>::new(&entry.dtype))
        .map_err(|_| wrong(format!("`{}` is no element type of safetensors", entry.dtype)))?;
    let Some(expected) = stored_size(dtype, &entry.shape) else {
        return Err(wrong(format!("a {dtype} tensor of shape {:?} has no size in whole bytes", entry.shape)));
    };
    let (start, end) = entry.data_offsets;
    let Some(size) = end.checked_sub(start) else {
        return Err(wrong(format!("its data ends at {end}, before it starts at {start}")));
    };
    if size != expected {
        return Err(wrong(format!(
            "its data offsets {start}..{end} span {size} bytes, but {dtype} of shape {:?} takes {expected}",
            entry.shape
        )));
    }
    if end > data_len {
        return Err(wrong(format!(
            "its data ends at {end}, but only {data_len} bytes of data are in the file: it is cut short"
        )));
    }
    Ok(TensorInfo { name, dtype, element: element_of(dtype), shape: entry.shape, file: 0, range: start..end })
}

/// Checks that tensors sorted by their offsets lie side by side and fill the data exactly.
fn check_layout(path: &Path, tensors: &[TensorInfo], data_len: usize) -> Result<()> {
    let mut end = 0;
    let mut previous = "";
    for tensor in tensors {
        let start = tensor.range.start;
        let place = || format!("tensor `{}`", tensor.name);
        if start < end {
            return Err(Error::file(
                path,
                place(),
                format!("its data starts at {start}, inside tensor `{previous}`, which ends at {end}"),
            ));
        }
        if start > end {
            return Err(Error::file(
                path,
                place(),
                format!("its data starts at {start}, and bytes {end} to {start} before it belong to no tensor"),
            ));
        }
        end = tensor.range.end;
        previous = &tensor.name;
    }
    if end < data_len {
        let problem = format!("the tensors end at byte {end} of the data, but the file holds {data_len} bytes of it");
        return Err(Error::file(path, "data", problem));
    }
    Ok(())
}

/// Bytes that a tensor takes; `None` if that overflows or is not whole.
fn stored_size(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
    let bits = elements.checked_mul(dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// The element type that efface computes with, if `dtype` is one.
fn element_of(dtype: Dtype) -> Option<Element> {
    match dtype {
        Dtype::F32 => Some(Element::F32),
        Dtype::F16 => Some(Element::F16),
        Dtype::BF16 => Some(Element::Bf16),
        _ => None,
    }
}

/// Lays out the file that holds `declared`: its first bytes (length and header) and its tensors in file order. Wide
/// elements come first, so that each tensor's data is aligned to its elements.
pub(super) fn build(
    path: &Path,
    declared: &[Declaration],
    metadata: &BTreeMap<String, String>,
) -> Result<(Vec<u8>, Vec<TensorInfo>)> {
    let mut ordered: Vec<&Declaration> = declared.iter().collect();
    ordered.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.bitsize()));

    let mut json = serde_json::Map::new();
    if !metadata.is_empty() {
        json.insert(METADATA_KEY.into(), metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect());
    }
    let mut tensors = Vec::with_capacity(ordered.len());
    let mut end = 0usize;
    for Declaration { name, dtype, shape } in ordered {
        let wrong = |problem: &str| Error::argument(format!("{}: tensor `{name}`: {problem}", path.display()));
        let start = end;
        end = stored_size(*dtype, shape)
            .and_then(|size| start.checked_add(size))
            .ok_or_else(|| wrong(&format!("{dtype} of shape {shape:?} has no size in whole bytes")))?;
        let entry = serde_json::json!({"dtype": dtype.to_string(), "shape": shape, "data_offsets": [start, end]});
        if name == METADATA_KEY {
            return Err(wrong("this name is reserved by safetensors"));
        }
        if json.insert(name.clone(), entry).is_some() {
            return Err(wrong("it is declared twice"));
        }
        let element = element_of(*dtype);
        tensors.push(TensorInfo {
            name: name.clone(),
            dtype: *dtype,
            element,
            shape: shape.clone(),
            file: 0,
            range: start..end,
        });
    }

    let mut text = serde_json::Value::Object(json).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(LENGTH_BYTES), b' ');
    if text.len() as u64 > MAX_HEADER {
        let problem = format!("a header of {} bytes is more than safetensors allows ({MAX_HEADER})", text.len());
        return Err(Error::argument(format!("{}: {problem}", path.display())));
    }
    let mut first = (text.len() as u64).to_le_bytes().to_vec();
    first.extend_from_slice(&text);
    for tensor in &mut tensors {
        tensor.range = tensor.range.start + first.len()..tensor.range.end + first.len();
    }
    Ok((first, tensors))
}

/// The JSON as read, before anything in it has been checked.
#[derive(Default)]
struct Json {
    /// The tensor whose entry is being read, for the error message.
    current: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    entries: BTreeMap<String, Entry>,
}

/// Reads the header's object into a [`Json`], which keeps what was reached when there is an error.
struct JsonSeed<'json>(&'json mut Json);

impl<'de> DeserializeSeed<'de> for JsonSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for JsonSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<(), A::Error> {
        let mut metadata_seen = false;
        while let Some(name) = access.next_key::<String>()? {
            let seen = if name == METADATA_KEY {
                std::mem::replace(&mut metadata_seen, true)
            } else {
                self.0.entries.contains_key(&name)
            };
            if seen {
                return Err(A::Error::custom(format!("`{name}` occurs twice")));
            }
            self.0.current = Some(name.clone());
            if name == METADATA_KEY {
                self.0.metadata = access.next_value::<Option<UniqueMap<String>>>()?.map(|map| map.0);
            } else {
                self.0.entries.insert(name, access.next_value()?);
            }
            self.0.current = None;
        }
        Ok(())
    }
}
