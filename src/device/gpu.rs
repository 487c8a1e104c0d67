//! The wgpu side of a device: pipelines made once, dispatches recorded into one pass and submitted in batches, and
//! errors turned into results.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Launch;
use crate::kernels::Shader;
use crate::kernels::tuning::AdapterClass;
use crate::{Error, Result};

/// Dispatches recorded before they are submitted: enough to hide a submission's cost, few enough to stay far below a
/// driver's watchdog.
const DISPATCHES_PER_SUBMIT: usize = 64;
/// Downloads go through a mapped staging buffer of at most this many bytes.
const DOWNLOAD_PIECE: u64 = 16 << 20;

/// A wgpu device, its queue and what has been recorded but not submitted.
pub(super) struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    params_alignment: u64,
    state: Mutex<State>,
    failure: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({})", self.name())
    }
}

struct State {
    pipelines: HashMap<(&'static str, &'static str), Arc<Pipeline>>,
    params: wgpu::Buffer,
    params_bytes: Vec<u8>,
    recorded: Option<(wgpu::CommandEncoder, wgpu::ComputePass<'static>)>,
    dispatches: usize,
    staging: Option<wgpu::Buffer>,
}

struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

impl Gpu {
    pub(super) fn new(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        let failure: Arc<Mutex<Option<String>>> = Arc::default();
        let remember = |failure: &Arc<Mutex<Option<String>>>| {
            let failure = failure.clone();
            move |message: String| {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
            }
        };
        let uncaptured = remember(&failure);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| uncaptured(describe(&error))));
        let lost = remember(&failure);
        device.set_device_lost_callback(move |reason, message| {
            // Dropping the last handle also "loses" the device, without anyone to tell.
            if reason != wgpu::DeviceLostReason::Destroyed {
                lost(format!("the device was lost: {message}"));
            }
        });
        let params_alignment = u64::from(device.limits().min_uniform_buffer_offset_alignment).max(64);
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: params_alignment.max(256) * DISPATCHES_PER_SUBMIT as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let state = Mutex::new(State {
            pipelines: HashMap::new(),
            params,
            params_bytes: Vec::new(),
            recorded: None,
            dispatches: 0,
            staging: None,
        });
        let gpu = Gpu { device, queue, params_alignment, state, failure };
        gpu.check()?;
        Ok(gpu)
    }

    pub(super) fn name(&self) -> String {
        let info = self.device.adapter_info();
        format!("{} ({:?}, {})", info.name, info.backend, info.driver_info)
    }

    /// What kind of adapter it is.
    pub(super) fn class(&self) -> AdapterClass {
        AdapterClass::of(&self.device.adapter_info())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first failure that the device reported, as an error, from then on at every call.
    fn check(&self) -> Result<()> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(message) => Err(Error::Device(message.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn allocate(&self, bytes: u64) -> Result<wgpu::Buffer> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        if pollster::block_on(scope.pop()).is_some() {
            return Err(Error::Device(format!(
                "out of memory: {bytes} bytes could not be allocated; a smaller --memory makes the plan use less"
            )));
        }
        self.check()?;
        Ok(buffer)
    }

    pub(super) fn upload(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        // A queue write happens before everything that is submitted later, so what is recorded goes first.
        self.flush(&mut self.state())?;
        let whole = bytes.len() & !3;
        if whole > 0 {
            self.queue.write_buffer(buffer, offset, &bytes[..whole]);
        }
        if whole < bytes.len() {
            let mut last = [0; 4];
            last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.queue.write_buffer(buffer, offset + whole as u64, &last);
        }
        self.check()
    }

    pub(super) fn clear(&self, buffer: &wgpu::Buffer) -> Result<()> {
        let mut state = self.state();
        self.flush(&mut state)?;
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.clear_buffer(buffer, 0, None);
        self.queue.submit([encoder.finish()]);
        self.check()
    }

    pub(super) fn download(&self, buffer: &wgpu::Buffer, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut state = self.state();
        self.flush(&mut state)?;
        let piece = DOWNLOAD_PIECE.min((out.len() as u64).next_multiple_of(4)).max(4);
        if state.staging.as_ref().is_none_or(|staging| staging.size() < piece) {
            state.staging = Some(self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("download"),
                size: piece.next_power_of_two().min(DOWNLOAD_PIECE),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }));
        }
        let staging = state.staging.clone().expect("made above");
        for (index, part) in out.chunks_mut(piece as usize).enumerate() {
            let length = (part.len() as u64).next_multiple_of(4);
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, offset + index as u64 * piece, &staging, 0, length);
            self.queue.submit([encoder.finish()]);
            let slice = staging.slice(..length);
            slice.map_async(wgpu::MapMode::Read, |_| {});
            self.wait()?;
            let view = slice.get_mapped_range().map_err(|e| Error::Device(format!("a download failed: {e}")))?;
            part.copy_from_slice(&view[..part.len()]);
            drop(view);
            staging.unmap();
        }
        self.check()
    }

    pub(super) fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        let pipeline = self.pipeline(state, launch.shader)?;
        let offset = state.params_bytes.len() as u64;
        state.params_bytes.extend_from_slice(launch.params);
        let stride = launch.params.len().next_multiple_of(self.params_alignment as usize);
        state.params_bytes.resize(offset as usize + stride, 0);

        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &state.params,
                offset: 0,
                size: NonZeroU64::new(launch.params.len() as u64),
            }),
        }];
        for (i, buffer) in launch.buffers.iter().enumerate() {
            let super::Storage::Gpu { buffer, .. } = &*buffer.storage else { return Err(super::foreign()) };
            entries.push(wgpu::BindGroupEntry { binding: i as u32 + 1, resource: buffer.as_entire_binding() });
        }
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(launch.shader.name),
            layout: &pipeline.layout,
            entries: &entries,
        });
        let (_, pass) = state.recorded.get_or_insert_with(|| {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let pass = encoder.begin_compute_pass(&Default::default()).forget_lifetime();
            (encoder, pass)
        });
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &bind_group, &[offset as u32]);
        let [x, y, z] = launch.workgroups;
        pass.dispatch_workgroups(x, y, z);
        state.dispatches += 1;
        if state.dispatches == DISPATCHES_PER_SUBMIT {
            self.flush(state)?;
        }
        Ok(())
    }

    fn pipeline(&self, state: &mut State, shader: &'static Shader) -> Result<Arc<Pipeline>> {
        if let Some(pipeline) = state.pipelines.get(&(shader.name, shader.variant)) {
            return Ok(pipeline.clone());
        }
        let entry = |binding, ty, has_dynamic_offset, size| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: size },
            count: None,
        };
        let params_size = NonZeroU64::new(u64::from(shader.params_size));
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true, params_size)];
        for (i, write) in shader.writes.iter().enumerate() {
            entries.push(entry(i as u32 + 1, wgpu::BufferBindingType::Storage { read_only: !write }, false, None));
        }
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(shader.name), entries: &entries });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(shader.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(shader.name),
            source: wgpu::ShaderSource::Wgsl(shader.source.into()),
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        self.check()?;
        let pipeline = Arc::new(Pipeline { pipeline, layout });
        state.pipelines.insert((shader.name, shader.variant), pipeline.clone());
        Ok(pipeline)
    }

    /// Submits what is recorded.
    fn flush(&self, state: &mut State) -> Result<()> {
        if let Some((encoder, pass)) = state.recorded.take() {
            drop(pass);
            self.queue.write_buffer(&state.params, 0, &state.params_bytes);
            self.queue.submit([encoder.finish()]);
            state.params_bytes.clear();
            state.dispatches = 0;
        }
        self.check()
    }

    pub(super) fn synchronize(&self) -> Result<()> {
        self.flush(&mut self.state())?;
        self.wait()
    }

    fn wait(&self) -> Result<()> {
        let waited = self.device.poll(wgpu::PollType::wait_indefinitely());
        self.check()?;
        waited.map(|_| ()).map_err(|e| Error::Device(format!("waiting for the device failed: {e}")))
    }
}

fn describe(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => "out of memory; a smaller --memory makes the plan use less".to_string(),
        other => other.to_string(),
    }
}
