//! Expands, validates and reflects every shader under `shaders/`, and writes them as Rust data to
//! `$OUT_DIR/shaders.rs`: the sources of all permutations and the layouts that the parameter structs are checked
//! against. A wrong shader stops the build with its file and line.

mod preprocess;
mod reflect;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

fn main() {
    println!("cargo::rerun-if-changed=shaders");
    println!("cargo::rerun-if-changed=build");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("shaders");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("shaders.rs");
    match generate(&root) {
        Ok(code) => fs::write(out, code).expect("cargo's output directory is writable"),
        Err(failures) => {
            for failure in failures {
                println!("cargo::error={}", failure.replace('\n', " "));
            }
            process::exit(1);
        }
    }
}

/// The Rust code for all shaders, or every failure found.
fn generate(root: &Path) -> Result<String, Vec<String>> {
    let mut files = Vec::new();
    collect(root, root, &mut files);
    files.sort();
    let mut sources = String::from("/// Every permutation of every shader.\npub static SHADERS: &[Shader] = &[\n");
    let mut layouts = String::from(
        "/// The layout of each shader's `Params`, as reflected from its WGSL.\npub(crate) mod layouts {\n    use super::Layout;\n",
    );
    let mut failures = Vec::new();
    for name in files.iter().filter(|name| !name.starts_with("shared/")) {
        if let Err(failure) = shader(root, name, &mut sources, &mut layouts) {
            failures.push(failure);
        }
    }
    sources.push_str("];\n");
    layouts.push_str("}\n");
    if failures.is_empty() { Ok(sources + &layouts) } else { Err(failures) }
}

/// Adds all permutations of the shader `name` (without ending) to the generated code.
fn shader(root: &Path, name: &str, sources: &mut String, layouts: &mut String) -> Result<(), String> {
    let file = format!("{name}.wgsl");
    let import = |shared: &str| fs::read_to_string(root.join(shared)).ok();
    let source = import(&file).ok_or_else(|| format!("shaders/{file}: cannot be read"))?;
    let permutations = preprocess::permutations(&file, &source)?;
    let mut first: Option<reflect::Reflection> = None;
    for constants in preprocess::combinations(&permutations) {
        let expanded = preprocess::expand(&file, &source, &constants, &import)?;
        let reflection = reflect::reflect(&expanded)?;
        let variant: Vec<String> = constants.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let _ = writeln!(
            sources,
            "    Shader {{ name: {name:?}, variant: {:?}, source: {:?}, features: &{:?}, writes: &{:?}, params_size: {}, workgroup_size: {:?} }},",
            variant.join(","),
            expanded.text,
            expanded.features.iter().collect::<Vec<_>>(),
            reflection.writes,
            reflection.params_size,
            reflection.workgroup_size,
        );
        if first.as_ref().is_some_and(|f| f.writes != reflection.writes || f.params_size != reflection.params_size) {
            return Err(format!("shaders/{file}:1: the permutations' bindings or parameters differ"));
        }
        first.get_or_insert(reflection);
    }
    let reflection = first.ok_or_else(|| format!("shaders/{file}: no permutation"))?;
    let fields: Vec<(&str, usize)> = reflection.fields.iter().map(|f| (f.name.as_str(), f.offset as usize)).collect();
    let _ = writeln!(
        layouts,
        "    pub(crate) const {}: Layout = Layout {{ size: {}, fields: &{fields:?} }};",
        name.replace('/', "_").to_uppercase(),
        reflection.params_size,
    );
    Ok(())
}

/// Names of all WGSL files below `folder`, relative to `root` and without their ending.
fn collect(root: &Path, folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, names);
        } else if path.extension().is_some_and(|e| e == "wgsl") {
            let relative = path.strip_prefix(root).expect("found below the root").with_extension("");
            names.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
}
