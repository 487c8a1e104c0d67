//! The command line of efface.

mod cli;

fn main() -> std::process::ExitCode {
    #[cfg(target_os = "linux")]
    hush_wayland();
    cli::main()
}

/// Software Vulkan drivers connect to Wayland, which complains on stderr where no session is, though nothing is wrong. Any
/// absolute path keeps it quiet.
#[cfg(target_os = "linux")]
fn hush_wayland() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: nothing has run before this, so there is no other thread that could read the environment.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
}
