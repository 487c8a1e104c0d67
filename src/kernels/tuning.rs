//! Which variant of a kernel runs: a rule that is built in, and a table of measured choices that `efface bench --tune` fills
//! and a file in the user's cache directory keeps from run to run.
//!
//! A table belongs to one adapter with one driver. What is chosen depends on the kernel, the element type and the result's
//! shape class alone. The variants of one kernel at full precision give the same bits (they sum in the same order), so that
//! tuning changes how long a run takes and not what it writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::tile::NAMES;
use super::{Kernel, linear, loss, norm, reduce};
use crate::device::{Device, cache_directory};
use crate::{Element, Error, Result};

/// The file's format.
const VERSION: u64 = 1;

/// What kind of device a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum AdapterClass {
    /// A driver that computes on the CPU, or the CPU device.
    #[default]
    Software,
    /// A GPU that shares the machine's memory.
    Integrated,
    /// A GPU with memory of its own.
    Discrete,
}

impl AdapterClass {
    /// The class of a wgpu adapter.
    pub fn of(info: &wgpu::AdapterInfo) -> Self {
        match info.device_type {
            wgpu::DeviceType::DiscreteGpu | wgpu::DeviceType::VirtualGpu => AdapterClass::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterClass::Integrated,
            wgpu::DeviceType::Cpu | wgpu::DeviceType::Other => AdapterClass::Software,
        }
    }
}

/// What a variant is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kernel's name.
    pub kernel: &'static str,
    /// How the stored matrix is encoded; none where all operands are `f32` activations.
    pub element: Option<Element>,
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
}

impl Problem {
    /// Problems with the same class get the same variant: the result's sides are taken as powers of two, rounded down.
    pub fn class(&self) -> String {
        let element = self.element.map_or("-", Element::name);
        let [rows, columns] = [self.rows, self.columns].map(|side| side.max(1).ilog2());
        format!("{} {element} {rows} {columns}", self.kernel)
    }
}

/// The variants of a kernel that tuning may try: tiles of products, or whether reductions use subgroups. Empty where there is
/// nothing to choose.
pub fn candidates(kernel: &str) -> &'static [&'static str] {
    let is_one_of = |kernels: &[Kernel]| kernels.iter().any(|k| k.name == kernel);
    let tiled = [
        linear::matmul_nt::KERNEL,
        linear::matmul_nn::KERNEL,
        linear::weight_importance::KERNEL,
        linear::weight_grads::KERNEL,
    ];
    if is_one_of(&tiled) {
        NAMES
    } else if is_one_of(norm::KERNELS)
        || is_one_of(&[loss::log_moments::KERNEL, loss::log_sum_exp::KERNEL, reduce::square_sum::KERNEL])
    {
        &["subgroup", "tree"]
    } else {
        &[]
    }
}

/// The permutation `REDUCTION` of a kernel that reduces `rows` rows of `width` elements: with subgroups where the device has
/// them, unless tuning found the tree to be faster. Both have the same bits.
pub(crate) fn reduction(device: &Device, kernel: &'static str, rows: usize, width: usize) -> &'static str {
    let problem = Problem { kernel, element: None, rows, columns: width };
    let smallest = device.features().subgroups.map(|[smallest, _]| smallest);
    match (device.tuning().measured(&problem), smallest) {
        (Some("tree"), _) => "tree",
        (_, Some(8)) => "8",
        (_, Some(16)) => "16",
        (_, Some(32)) => "32",
        (_, Some(64)) => "64",
        _ => "tree",
    }
}

/// The choices for one adapter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    class: AdapterClass,
    measured: BTreeMap<String, &'static str>,
    forced: BTreeMap<&'static str, &'static str>,
    answered: Answered,
    warnings: Vec<String>,
}

/// The problems for which a forced variant was taken. No part of what a table says.
#[derive(Clone, Debug, Default)]
struct Answered(Arc<Mutex<Vec<Problem>>>);

impl PartialEq for Answered {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Tuning {
    /// The built-in rules for a class of adapters.
    pub fn built_in(class: AdapterClass) -> Self {
        Tuning { class, ..Tuning::default() }
    }

    /// The built-in rules, and what the file at `path` has for `adapter` (a device's full name, with its driver). A missing
    /// file is no fault; what is broken in one is passed over and named in [`Tuning::warnings`].
    pub fn read(class: AdapterClass, adapter: &str, path: &Path) -> Self {
        let mut tuning = Tuning::built_in(class);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return tuning,
            Err(e) => {
                tuning.warnings.push(format!("{}: {e}; the built-in choices are used", path.display()));
                return tuning;
            }
        };
        let entries = match entries(&text, adapter) {
            Ok(entries) => entries,
            Err(problem) => {
                tuning.warnings.push(format!("{}: {problem}; the built-in choices are used", path.display()));
                return tuning;
            }
        };
        for (class, variant) in entries {
            let kernel = class.split(' ').next().unwrap_or_default();
            let known = variant.as_str().and_then(|v| candidates(kernel).iter().find(|known| **known == v));
            match known {
                Some(variant) => drop(tuning.measured.insert(class, variant)),
                None => tuning.warnings.push(format!(
                    "{}: {adapter}: {class:?}: {variant} is no variant of that kernel; the entry is ignored",
                    path.display()
                )),
            }
        }
        tuning
    }

    /// Where choices are kept: `tuning.json` in the [user's cache directory](cache_directory); none where the environment names
    /// none.
    pub fn cache_file() -> Option<PathBuf> {
        cache_directory().map(|directory| directory.join("tuning.json"))
    }

    /// What was passed over when the file was read, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Sets the measured choice for the class of `problem`.
    ///
    /// # Errors
    /// When the kernel has no such variant.
    pub fn set(&mut self, problem: &Problem, variant: &str) -> Result<()> {
        let variant = known(problem.kernel, variant)?;
        self.measured.insert(problem.class(), variant);
        Ok(())
    }

    /// These choices with `variant` for all problems of `kernel`: to measure it.
    ///
    /// # Errors
    /// When the kernel has no such variant.
    pub fn forced(&self, kernel: &'static str, variant: &str) -> Result<Self> {
        let variant = known(kernel, variant)?;
        let mut tuning = Tuning { answered: Answered::default(), ..self.clone() };
        tuning.forced.insert(kernel, variant);
        Ok(tuning)
    }

    /// The problems that kernels were launched with, of those that have a [forced](Tuning::forced) variant: what a figure
    /// that was measured so is a figure of.
    pub fn answered(&self) -> Vec<Problem> {
        self.answered.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes the measured choices for `adapter` to `path`, keeping what the file has for others. The file is replaced as a
    /// whole, so that whoever reads it meanwhile sees the old one or the new one.
    ///
    /// # Errors
    /// When the file or its directory cannot be written.
    pub fn write(&self, adapter: &str, path: &Path) -> Result<()> {
        let old = std::fs::read_to_string(path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let old = old.filter(|old| old["version"] == VERSION);
        let mut adapters = old.and_then(|old| old["adapters"].as_object().cloned()).unwrap_or_default();
        let entries: Map<String, Value> = self.measured.iter().map(|(class, v)| (class.clone(), json!(v))).collect();
        adapters.insert(adapter.to_string(), Value::Object(entries));
        let text = format!("{:#}\n", json!({ "version": VERSION, "adapters": adapters }));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| Error::writing(folder, e))?;
        }
        let beside = path.with_extension(format!("json.{}", std::process::id()));
        std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path)).map_err(|e| Error::writing(path, e))
    }

    /// The measured (or forced) variant for a problem, if there is one.
    pub fn measured(&self, problem: &Problem) -> Option<&'static str> {
        if let Some(variant) = self.forced.get(problem.kernel) {
            let mut answered = self.answered.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !answered.contains(problem) {
                answered.push(*problem);
            }
            return Some(variant);
        }
        if self.measured.is_empty() {
            return None;
        }
        self.measured.get(&problem.class()).copied()
    }

    /// The class that the built-in rules go by.
    pub fn class(&self) -> AdapterClass {
        self.class
    }
}

fn known(kernel: &str, variant: &str) -> Result<&'static str> {
    let all = candidates(kernel);
    all.iter()
        .find(|known| **known == variant)
        .copied()
        .ok_or_else(|| Error::argument(format!("{variant:?} is no variant of {kernel}; there are: {}", all.join(", "))))
}

/// The file's entries for an adapter.
fn entries(text: &str, adapter: &str) -> std::result::Result<Map<String, Value>, String> {
    let file: Value = serde_json::from_str(text).map_err(|e| format!("not JSON ({e})"))?;
    if file["version"] != VERSION {
        return Err(format!("version {} is not {VERSION}", file["version"]));
    }
    match &file["adapters"][adapter] {
        Value::Null => Ok(Map::new()),
        Value::Object(entries) => Ok(entries.clone()),
        other => Err(format!("the entries of {adapter} are {other} instead of an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = linear::matmul_nt::KERNEL.name;

    fn problem(rows: usize) -> Problem {
        Problem { kernel: KERNEL, element: Some(Element::Bf16), rows, columns: 1536 }
    }

    #[test]
    fn what_is_written_is_read_by_the_same_adapter_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/tuning.json");
        let mut tuning = Tuning::built_in(AdapterClass::Discrete);
        tuning.set(&problem(600), "128x64").unwrap();
        tuning.write("adapter A", &path).unwrap();
        let mut other = Tuning::built_in(AdapterClass::Discrete);
        other.set(&problem(600), "32").unwrap();
        other.write("adapter B", &path).unwrap();

        let read = Tuning::read(AdapterClass::Discrete, "adapter A", &path);
        assert_eq!(read, tuning);
        assert_eq!(read.measured(&problem(1023)), Some("128x64"));
        assert_eq!(read.measured(&problem(1024)), None);
        assert_eq!(Tuning::read(AdapterClass::Discrete, "adapter B", &path).measured(&problem(513)), Some("32"));
        assert_eq!(Tuning::read(AdapterClass::Discrete, "adapter C", &path).measured(&problem(513)), None);
    }

    #[test]
    fn broken_files_and_entries_are_passed_over_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        let class = problem(600).class();
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Tuning::read(AdapterClass::Discrete, "A", &path)
        };
        for text in ["", "{", "[]", "7", r#"{"version":2,"adapters":{}}"#, r#"{"version":1,"adapters":{"A":[1]}}"#] {
            let tuning = read(text);
            assert_eq!(tuning.warnings().len(), 1, "{text}");
            assert!(tuning.warnings()[0].contains("tuning.json"), "{:?}", tuning.warnings());
            assert_eq!(tuning.measured(&problem(600)), None);
        }
        let entries = json!({ "version": 1, "adapters": { "A": {
            class.as_str(): "64", "linear/matmul_nt f32 1 1": "4096", "no/kernel - 1 1": "64", "": 7 } } });
        let tuning = read(&entries.to_string());
        assert_eq!(tuning.warnings().len(), 3, "{:?}", tuning.warnings());
        assert_eq!(tuning.measured(&problem(600)), Some("64"));
    }

    #[test]
    fn a_missing_file_is_no_fault() {
        let tuning = Tuning::read(AdapterClass::Integrated, "A", Path::new("/nonexistent/tuning.json"));
        assert_eq!(tuning, Tuning::built_in(AdapterClass::Integrated));
    }

    #[test]
    fn unknown_variants_are_refused() {
        let mut tuning = Tuning::default();
        assert!(tuning.set(&problem(1), "8").unwrap_err().to_string().contains("128x64"));
        assert!(tuning.forced(KERNEL, "8").is_err());
        let forced = tuning.forced(KERNEL, "64").unwrap();
        assert_eq!(forced.measured(&problem(1)), Some("64"));
        assert_eq!(forced.measured(&problem(1)), Some("64"));
        assert_eq!(forced.answered(), [problem(1)]);
        assert_eq!((forced.forced(KERNEL, "32").unwrap().answered(), tuning.answered()), (Vec::new(), Vec::new()));
        assert_eq!(tuning.measured(&problem(1)), None);
    }
}
