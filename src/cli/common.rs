//! The flags of every command: device, memory, seed, and how much is said where.

use efface::device::{Choice, Device, Options, cache_directory, open_with};
use efface::kernels::tuning::Tuning;
use efface::{Result, report::escape};

use super::size;

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Every command")]
pub struct Common {
    /// What computes: auto (a hardware GPU if there is one, else the CPU), cpu, gpu (hardware, else a software driver),
    /// gpu:N (see `efface devices`).
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Choice,
    /// Device memory budget, e.g. 4GiB or 512MiB. Larger models are streamed through it.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub memory: Option<u64>,
    /// Host memory for activations that wait, e.g. 16GiB [default: half of what is free].
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub host_memory: Option<u64>,
    /// Print one JSON object on stdout; everything else goes to stderr.
    #[arg(long)]
    pub json: bool,
    /// Seed of everything that is drawn at random.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Say nothing on stderr but errors.
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more on stderr: the plan, the device, what took how long.
    #[arg(short, long)]
    pub verbose: bool,
}

impl Common {
    /// Opens the device that was chosen, with the budget that was given.
    ///
    /// # Errors
    /// When there is no such device, or it cannot be opened.
    pub fn open_device(&self) -> Result<Device> {
        let device = open_with(self.device, &self.options())?;
        self.opened(&device);
        Ok(device)
    }

    /// Says which device was opened, and what was wrong with the choices that an earlier run kept for it.
    pub fn opened(&self, device: &Device) {
        self.detail(&format!("device: {}", device.name()));
        device.tuning().warnings().iter().for_each(|warning| self.note(warning));
    }

    /// How devices are opened. Variants of kernels that were measured on the device are taken. Compiled pipelines are kept in
    /// the user's cache directory unless `EFFACE_PIPELINE_CACHE=off`; `EFFACE_SHADER_CHECKS=on` or `off` says whether shaders
    /// check every access.
    pub fn options(&self) -> Options {
        let switch = |name: &str| match std::env::var(name).as_deref() {
            Ok("on" | "1") => Some(true),
            Ok("off" | "0") => Some(false),
            _ => None,
        };
        let defaults = Options::default();
        let cache = cache_directory().filter(|_| switch("EFFACE_PIPELINE_CACHE") != Some(false));
        let tuning = Tuning::cache_file();
        let checks = switch("EFFACE_SHADER_CHECKS").unwrap_or(defaults.shader_checks);
        Options { memory: self.memory, shader_checks: checks, pipeline_cache: cache, tuning }
    }

    /// The flags that were given, as another command takes them: `add` hears each with its values.
    pub fn repeat(&self, add: &mut impl FnMut(&str, &[String])) {
        if self.device != Choice::Auto {
            add("--device", &[self.device.to_string()]);
        }
        let sizes = [("--memory", self.memory), ("--host-memory", self.host_memory)];
        for (flag, size) in sizes {
            if let Some(size) = size {
                add(flag, &[size.to_string()]);
            }
        }
        if self.seed != 0 {
            add("--seed", &[self.seed.to_string()]);
        }
        for (flag, given) in [("--json", self.json), ("--quiet", self.quiet), ("--verbose", self.verbose)] {
            if given {
                add(flag, &[]);
            }
        }
    }

    /// Says something on stderr that a person wants to know.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("{}", escape::terminal(text));
        }
    }

    /// Says something on stderr that only a curious person wants to know.
    pub fn detail(&self, text: &str) {
        if self.verbose {
            eprintln!("{}", escape::terminal(text));
        }
    }
}
