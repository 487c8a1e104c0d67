//! One name, three places: a shader, a kernel file and a test module that its family runs, and all of them registered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use efface::kernels::{SHADERS, registry};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `family/name` of every file with this ending in the families below `folder`.
fn names(folder: &Path, ending: &str, passed_over: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for family in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        for file in std::fs::read_dir(&family).unwrap().map(|e| e.unwrap().path()) {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            if file.extension().is_some_and(|e| e == ending) && !passed_over.contains(&name.as_str()) {
                found.insert(format!("{}/{name}", family.file_name().unwrap().to_string_lossy()));
            }
        }
    }
    found
}

#[test]
fn every_kernel_has_its_shader_its_file_its_test_and_its_place_in_the_registry() {
    let registered: BTreeSet<String> = registry().map(|k| k.name.to_string()).collect();
    assert_eq!(registered.len(), registry().count(), "a kernel is registered twice");
    let shaders: BTreeSet<String> =
        names(&root().join("shaders"), "wgsl", &[]).into_iter().filter(|n| !n.starts_with("shared/")).collect();
    assert!(!shaders.is_empty());
    assert_eq!(shaders, registered, "shaders/ against kernels::registry()");
    assert_eq!(names(&root().join("src/kernels"), "rs", &["mod"]), registered, "src/kernels/ against the registry");
    assert_eq!(
        names(&root().join("kernels-tests/tests"), "rs", &["main"]),
        registered,
        "kernels-tests/tests/ against the registry"
    );
    let built: BTreeSet<String> = SHADERS.iter().map(|s| s.name.to_string()).collect();
    assert_eq!(built, registered, "built shaders against the registry");
}

#[test]
fn every_test_file_is_a_module_of_its_family() {
    for kernel in registry() {
        let (family, name) = kernel.name.split_once('/').unwrap();
        let main = root().join(format!("kernels-tests/tests/{family}/main.rs"));
        let text = std::fs::read_to_string(&main).unwrap();
        assert!(text.lines().any(|l| l == format!("mod {name};")), "{} does not run {name}", main.display());
    }
}
