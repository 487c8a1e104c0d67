//! A GPU or the CPU behind one interface: buffers under a memory budget, and launches of kernels.
//!
//! Work is recorded in order and has happened, as far as the caller can see, when [`Device::download`] or
//! [`Device::synchronize`] returns. Until then nobody waits: uploads, launches and downloads that are looked at later
//! ([`Device::read_later`]) are queued one after the other. There is no global device: one is made by [`Device::cpu`] or [`Device::gpu`], or from
//! an embedder's own wgpu objects by [`Device::from_wgpu`], and passed to whatever uses it.

mod adapters;
mod budget;
mod buffer;
mod features;
mod gpu;
mod memory;
mod on_host;
mod options;
pub mod record;
mod scratch;
mod transfer;

use std::sync::Arc;

pub use adapters::{AdapterReport, Choice, adapters, open, open_with};
pub use budget::Budget;
pub use buffer::{Buffer, CpuBindings, Read, Write};
pub use features::{Features, MatrixProduct, Scalar};
pub use on_host::OnHost;
pub use options::{Options, cache_directory};
pub use scratch::Lease;
pub use transfer::{Download, Staged, Stager};

use crate::kernels::precision::Precision;
use crate::kernels::tuning::Tuning;
use crate::kernels::{Cost, Shader};
use crate::{Error, Result};
use buffer::Storage;
use gpu::Gpu;
use memory::{check_range, foreign};
use record::{Clock, KernelRun, Mode, Recorder, Recording, Span, Track, Work};

/// A device and its memory budget. Cheap to clone: clones are the same device, with the same choices of variants.
#[derive(Clone, Debug)]
pub struct Device(Arc<Inner>, Settings);

/// What a handle chooses, apart from the device that it shares with others.
#[derive(Clone, Debug, Default)]
struct Settings {
    tuning: Arc<Tuning>,
    precision: Precision,
}

#[derive(Debug)]
struct Inner {
    backend: Backend,
    budget: Budget,
    pool: scratch::Pool,
    binding_limit: u64,
    features: Features,
    recorder: Arc<Recorder>,
    reading: Arc<on_host::Reading>,
}

#[derive(Debug)]
enum Backend {
    Cpu,
    Gpu(Box<Gpu>),
}

/// One launch of a kernel: what a GPU needs to know. The CPU twin is passed beside it.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The shader, in the permutation to run.
    pub shader: &'static Shader,
    /// The bytes of its `Params`.
    pub params: &'a [u8],
    /// The same parameters, to be shown.
    pub shown: &'a dyn std::fmt::Debug,
    /// The buffers at bindings 1, 2, ...
    pub buffers: &'a [&'a Buffer],
    /// Workgroups in x, y, z.
    pub workgroups: [u32; 3],
    /// What it moves and computes.
    pub cost: Cost,
}

impl Device {
    /// The CPU, with `memory` bytes as its budget (`u64::MAX`: no budget). Buffers are host memory.
    pub fn cpu(memory: u64) -> Self {
        // A mapped tensor is used in place, so nothing but a shader's 32-bit indices limits a CPU binding.
        let inner = Arc::new(Inner {
            backend: Backend::Cpu,
            budget: Budget::new(memory),
            pool: scratch::Pool::default(),
            binding_limit: 1 << 34,
            features: Features::default(),
            recorder: Arc::default(),
            reading: Arc::default(),
        });
        Device(inner, Settings::default())
    }

    /// A GPU through the embedder's own wgpu device and queue. `memory` is the budget in bytes for what efface allocates.
    ///
    /// # Errors
    /// When the device's limits are below what the kernels need.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue, memory: u64) -> Result<Self> {
        Device::assemble(device, queue, &Options { memory: Some(memory), ..Options::default() }, &[])
    }

    /// A GPU whose adapter has these matrix units.
    fn assemble(
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &Options,
        matrices: &[wgpu::CooperativeMatrixProperties],
    ) -> Result<Self> {
        let features = Features::of(&device, matrices);
        let limits = device.limits();
        let binding_limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let recorder = Arc::<Recorder>::default();
        let gpu = Gpu::new(device, queue, options, recorder.clone())?;
        let settings = Settings { tuning: Arc::new(Tuning::built_in(gpu.class())), ..Settings::default() };
        let inner = Arc::new(Inner {
            backend: Backend::Gpu(Box::new(gpu)),
            budget: Budget::new(options.memory.unwrap_or(u64::MAX)),
            pool: scratch::Pool::default(),
            binding_limit,
            features,
            recorder,
            reading: Arc::default(),
        });
        Ok(Device(inner, settings))
    }

    /// This device with a lower limit on the size of one buffer, so that splitting can be tested on small models.
    #[must_use]
    pub fn with_binding_limit(self, bytes: u64) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Device(Arc::new(Inner { binding_limit: bytes.min(inner.binding_limit), ..inner }), self.1),
            Err(shared) => Device(shared, self.1),
        }
    }

    /// A handle of this device whose kernels' variants are chosen by `tuning`.
    #[must_use]
    pub fn with_tuning(&self, tuning: Tuning) -> Self {
        Device(self.0.clone(), Settings { tuning: Arc::new(tuning), ..self.1.clone() })
    }

    /// A handle of this device whose linear layers are computed in this precision. That the device can do so is the caller's
    /// business: see [`precision::open_mixed`](crate::kernels::precision::open_mixed).
    #[must_use]
    pub fn with_precision(&self, precision: Precision) -> Self {
        Device(self.0.clone(), Settings { precision, ..self.1.clone() })
    }

    /// In what precision linear layers are computed.
    pub fn precision(&self) -> Precision {
        self.1.precision
    }

    /// What chooses the variants of kernels.
    pub fn tuning(&self) -> &Tuning {
        &self.1.tuning
    }

    /// The largest buffer that a kernel can be given, in bytes.
    pub fn binding_limit(&self) -> u64 {
        self.0.binding_limit
    }

    /// What its shaders may use beyond the portable floor.
    pub fn features(&self) -> &Features {
        &self.0.features
    }

    /// The memory budget and what is used of it.
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// Changes the memory budget, in bytes. What is allocated already stays.
    pub fn set_memory(&self, memory: u64) {
        self.0.budget.set_limit(memory);
    }

    /// Whether this is the CPU device.
    pub fn is_cpu(&self) -> bool {
        matches!(self.0.backend, Backend::Cpu)
    }

    /// The device's name, for reports.
    pub fn name(&self) -> String {
        match &self.0.backend {
            Backend::Cpu => format!("cpu ({} threads)", rayon::current_num_threads()),
            Backend::Gpu(gpu) => gpu.name(),
        }
    }

    /// Runs a kernel: the shader on a GPU, `twin` on the CPU.
    ///
    /// # Errors
    /// When the buffers do not fit the shader's bindings, or the device failed.
    pub fn launch(&self, launch: &Launch<'_>, twin: impl FnOnce(&CpuBindings<'_>)) -> Result<()> {
        check_launch(launch)?;
        if launch.workgroups.contains(&0) {
            return Ok(());
        }
        match &self.0.backend {
            Backend::Cpu => {
                let ours =
                    launch.buffers.iter().zip(launch.shader.writes).all(|(buffer, write)| match &*buffer.storage {
                        Storage::Host { .. } => true,
                        Storage::Borrowed(_) => !write,
                        Storage::Gpu { .. } => false,
                    });
                if !ours {
                    return Err(foreign());
                }
                self.run_twin(launch, twin);
                Ok(())
            }
            Backend::Gpu(gpu) => gpu.launch(launch),
        }
    }

    fn run_twin(&self, launch: &Launch<'_>, twin: impl FnOnce(&CpuBindings<'_>)) {
        let recorder = &self.0.recorder;
        let begin = recorder.mode().map(|_| recorder.now());
        twin(&CpuBindings::new(launch.buffers));
        if let Some(begin) = begin {
            recorder.note(Track::Compute, begin, Work::Kernels(vec![KernelRun::of(launch)]));
        }
    }

    /// Hands recorded work to the device without waiting for it.
    ///
    /// # Errors
    /// When the device failed.
    pub fn submit(&self) -> Result<()> {
        match &self.0.backend {
            Backend::Cpu => Ok(()),
            Backend::Gpu(gpu) => gpu.submit(),
        }
    }

    /// Begins to note what the device does and what its callers say they are doing ([`Device::span`]). The calling thread is
    /// the one whose spans are the host's.
    ///
    /// # Errors
    /// When the device failed.
    pub fn begin_recording(&self, mode: Mode) -> Result<()> {
        self.0.recorder.begin(mode);
        match &self.0.backend {
            Backend::Cpu => Ok(()),
            Backend::Gpu(gpu) => gpu.begin_recording(mode),
        }
    }

    /// Waits until all recorded work is done and hands out what was noted since [`Device::begin_recording`].
    ///
    /// # Errors
    /// When the device failed.
    pub fn end_recording(&self) -> Result<Recording> {
        let mode = self.0.recorder.mode().unwrap_or(Mode::Production);
        self.synchronize()?;
        let (seconds, mut events) = self.0.recorder.end();
        let clock = match &self.0.backend {
            Backend::Cpu => Clock::Host,
            Backend::Gpu(gpu) => {
                let (clock, of_device) = gpu.end_recording()?;
                // Clocks that drift apart may put the first or the last of it a little outside.
                events.extend(of_device.into_iter().map(|event| record::Event {
                    begin: event.begin.clamp(0.0, seconds),
                    end: event.end.clamp(0.0, seconds),
                    ..event
                }));
                clock
            }
        };
        events.sort_by(|a, b| (a.track, a.begin).partial_cmp(&(b.track, b.begin)).unwrap_or(std::cmp::Ordering::Equal));
        Ok(Recording { mode, clock, seconds, events })
    }

    /// Says what this thread is doing until the span is dropped. Free unless a recording is on; `name` is asked for only
    /// then.
    pub fn span(&self, name: impl FnOnce() -> String) -> Span<'_> {
        self.0.recorder.span(name)
    }

    /// Waits until all recorded work is done.
    ///
    /// # Errors
    /// When the device failed.
    pub fn synchronize(&self) -> Result<()> {
        match &self.0.backend {
            Backend::Cpu => Ok(()),
            Backend::Gpu(gpu) => gpu.synchronize(),
        }
    }
}

fn check_launch(launch: &Launch<'_>) -> Result<()> {
    let shader = launch.shader;
    let wrong = |problem: String| Err(Error::Device(format!("{} [{}]: {problem}", shader.name, shader.variant)));
    if launch.buffers.len() != shader.writes.len() {
        return wrong(format!("{} buffers for {} bindings", launch.buffers.len(), shader.writes.len()));
    }
    if launch.params.len() != shader.params_size as usize {
        return wrong(format!("{} bytes of parameters instead of {}", launch.params.len(), shader.params_size));
    }
    if let Some(count) = launch.workgroups.iter().find(|count| **count > 65_535) {
        return wrong(format!("{count} workgroups in one dimension; 65535 are possible"));
    }
    for (i, (buffer, write)) in launch.buffers.iter().zip(shader.writes).enumerate() {
        let shared = launch.buffers.iter().enumerate().any(|(j, other)| i != j && buffer.same(other));
        if *write && shared {
            return wrong(format!("the buffer written at binding {} is bound twice", i + 1));
        }
    }
    Ok(())
}
