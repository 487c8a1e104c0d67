//! What can be chosen when a device is opened.

use std::path::PathBuf;

/// How a device is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The memory budget in bytes; none: all that the device has.
    pub memory: Option<u64>,
    /// Whether shaders check every access and every division, as the tests do. Without checks they are faster; results are
    /// the same. On by default in builds with debug assertions, off in others.
    pub shader_checks: bool,
    /// A directory in which compiled pipelines are kept from run to run, where the driver allows it (Vulkan). None by
    /// default: the library writes nowhere unasked. The command line takes [`cache_directory`].
    pub pipeline_cache: Option<PathBuf>,
    /// A file of measured choices of kernels' variants; a missing one is no fault. None by default: the built-in choices. The
    /// command line takes [`Tuning::cache_file`](crate::kernels::tuning::Tuning::cache_file).
    pub tuning: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options { memory: None, shader_checks: cfg!(debug_assertions), pipeline_cache: None, tuning: None }
    }
}

/// The user's directory for what efface may forget: `efface` in `$XDG_CACHE_HOME` or `~/.cache`, `~/Library/Caches` on macOS,
/// `%LOCALAPPDATA%` on Windows. None where the environment names none.
pub fn cache_directory() -> Option<PathBuf> {
    let directory = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = if cfg!(windows) {
        directory("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        directory("HOME").map(|home| home.join("Library/Caches"))
    } else {
        directory("XDG_CACHE_HOME").or_else(|| directory("HOME").map(|home| home.join(".cache")))
    };
    base.map(|base| base.join("efface"))
}
