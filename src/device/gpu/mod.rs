//! The wgpu side of a device: dispatches and copies recorded in order and submitted in batches, and errors turned into
//! results.
//!
//! Nothing here waits unless its result is asked for: uploads are copies out of staging memory at their place in the order,
//! downloads are copies into it that are looked at later, and memory that was let go counts until the device is done with it.
//!
//! | file | what it holds |
//! |---|---|
//! | `pipelines.rs` | shaders compiled, once |
//! | `staging.rs` | the memory that uploads and downloads pass through |
//! | `transfer.rs` | uploads and downloads |
//! | `retired.rs` | memory let go and still in use |
//! | `timestamps.rs` | when the device did what |

mod pipelines;
mod retired;
mod staging;
mod timestamps;
mod transfer;

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{Clock, Event, KernelRun, Mode, Recorder, Track, Work};
use super::{Launch, Options};
use crate::kernels::tuning::AdapterClass;
use crate::{Error, Result};
use pipelines::Pipelines;
pub(super) use retired::Retired;
use staging::Direction;
pub(super) use staging::{Filled, PIECE, Ring};
use timestamps::{PassNotes, Tape};
pub(super) use transfer::Landing;

/// Dispatches recorded before they are submitted: enough to hide a submission's cost, few enough to stay far below a
/// driver's watchdog.
const DISPATCHES_PER_SUBMIT: usize = 64;
/// Submissions on their way before the host waits for the oldest: what a queue holds should not grow with the work.
const SUBMISSIONS_IN_FLIGHT: usize = 64;
/// Memory that was let go and is still in use, at most, where no budget says less. In bytes.
const RETIRED_AT_MOST: u64 = 1 << 30;
/// Staging memory for uploads by whoever computes, and for all downloads, at most. In bytes.
const UPLOAD_STAGING: u64 = 64 << 20;
const DOWNLOAD_STAGING: u64 = 1 << 30;

/// A wgpu device, its queue and what has been recorded but not submitted.
pub(super) struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    params_alignment: u64,
    pipelines: Pipelines,
    uploads: Ring,
    downloads: Ring,
    retired: Retired,
    recorder: Arc<Recorder>,
    state: Mutex<State>,
    failure: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({})", self.name())
    }
}

struct State {
    params: wgpu::Buffer,
    params_bytes: Vec<u8>,
    recorded: Option<Recorded>,
    dispatches: usize,
    /// The number of the last submission, counted from 1.
    submitted: u64,
    in_flight: VecDeque<(u64, wgpu::SubmissionIndex)>,
    /// Staging memory that what is recorded reads: goes back when it is complete.
    sources: Vec<(wgpu::Buffer, Ring)>,
    /// Where the next small upload goes: a buffer among the sources and how much of it is used.
    open: Option<(wgpu::Buffer, u64)>,
    /// Staging memory that what is recorded writes: to be looked at when it is complete.
    targets: Vec<transfer::Target>,
    tape: Option<Tape>,
}

/// Commands that are not submitted yet.
struct Recorded {
    encoder: wgpu::CommandEncoder,
    pass: Option<wgpu::ComputePass<'static>>,
    notes: PassNotes,
}

impl Gpu {
    pub(super) fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &Options,
        recorder: Arc<Recorder>,
    ) -> Result<Self> {
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
            params,
            params_bytes: Vec::new(),
            recorded: None,
            dispatches: 0,
            submitted: 0,
            in_flight: VecDeque::new(),
            sources: Vec::new(),
            open: None,
            targets: Vec::new(),
            tape: None,
        });
        let pipelines = Pipelines::new(&device, options.shader_checks, options.pipeline_cache.as_deref());
        let (uploads, downloads) =
            (Ring::new(Direction::Up, UPLOAD_STAGING), Ring::new(Direction::Down, DOWNLOAD_STAGING));
        let retired = Retired::default();
        let gpu =
            Gpu { device, queue, params_alignment, pipelines, uploads, downloads, retired, recorder, state, failure };
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

    /// Where memory waits that the program has let go of.
    pub(super) fn retired(&self) -> &Retired {
        &self.retired
    }

    /// Frees memory that was let go of and that the device is done with, and waits where too much of it is still in use.
    pub(super) fn reclaim(&self) -> Result<()> {
        self.retired.release();
        while self.retired.bytes() > RETIRED_AT_MOST {
            if !self.reclaim_oldest()? {
                break;
            }
        }
        Ok(())
    }

    /// Waits until the memory let go of first is free. False: there is none.
    pub(super) fn reclaim_oldest(&self) -> Result<bool> {
        let Some(oldest) = self.retired.oldest() else { return Ok(false) };
        let _span = self.recorder.span(|| "waiting for memory that the device still uses".into());
        self.wait_for(oldest)?;
        Ok(true)
    }

    pub(super) fn clear(&self, buffer: &wgpu::Buffer) -> Result<()> {
        let mut state = self.state();
        self.copies(&mut state, Track::Compute, buffer.size(), |encoder| encoder.clear_buffer(buffer, 0, None));
        self.check()
    }

    pub(super) fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let pipeline = self.pipelines.get(launch.shader);
        let mut guard = self.state();
        let state = &mut *guard;
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
        let pass = self.pass(state);
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &bind_group, &[offset as u32]);
        let [x, y, z] = launch.workgroups;
        pass.dispatch_workgroups(x, y, z);
        state.dispatches += 1;
        self.note_launch(state, launch);
        let alone = state.tape.as_ref().is_some_and(|tape| tape.waits() && tape.mode() == Mode::Attribution);
        if state.dispatches == DISPATCHES_PER_SUBMIT || alone {
            self.flush(state)?;
        }
        Ok(())
    }

    /// What is recorded; begun if there is nothing yet.
    fn recorded<'s>(&self, state: &'s mut State) -> (&'s mut Recorded, &'s mut Option<Tape>) {
        let State { recorded, tape, submitted, .. } = state;
        let recorded = recorded.get_or_insert_with(|| {
            self.retired.used_in(*submitted + 1);
            let encoder = self.device.create_command_encoder(&Default::default());
            Recorded { encoder, pass: None, notes: PassNotes::default() }
        });
        (recorded, tape)
    }

    /// The pass that dispatches go into; begun if there is none.
    fn pass<'s>(&self, state: &'s mut State) -> &'s mut wgpu::ComputePass<'static> {
        let (recorded, tape) = self.recorded(state);
        recorded.pass.get_or_insert_with(|| {
            let stamps = tape.as_mut().and_then(|tape| tape.pass(&self.device));
            recorded.notes.pair = stamps.map(|(pair, _)| pair);
            let timestamp_writes = stamps.map(|(pair, query_set)| wgpu::ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(pair.begin()),
                end_of_pass_write_index: Some(pair.end()),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
            recorded.encoder.begin_compute_pass(&descriptor).forget_lifetime()
        })
    }

    fn note_launch(&self, state: &mut State, launch: &Launch<'_>) {
        let mode = state.tape.as_ref().map(Tape::mode);
        if let (Some(mode), Some(recorded)) = (mode, &mut state.recorded) {
            recorded.notes.kernels.push(KernelRun::of(launch));
            if mode == Mode::Attribution {
                end_pass(state);
            }
        }
    }

    /// Records copies of `bytes` bytes after everything recorded so far.
    fn copies(&self, state: &mut State, track: Track, bytes: u64, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
        end_pass(state);
        let number = state.submitted + 1;
        let (recorded, tape) = self.recorded(state);
        let Some(tape) = tape else { return record(&mut recorded.encoder) };
        let pair = tape.begin_copies(&self.device, &mut recorded.encoder);
        record(&mut recorded.encoder);
        tape.end_copies(&mut recorded.encoder, pair);
        tape.add(pair, number, track, Work::Copies { bytes, count: 1 });
    }

    /// Submits what is recorded.
    fn flush(&self, state: &mut State) -> Result<()> {
        end_pass(state);
        let Some(Recorded { encoder, .. }) = state.recorded.take() else { return self.check() };
        if !state.params_bytes.is_empty() {
            self.queue.write_buffer(&state.params, 0, &state.params_bytes);
        }
        state.open = None;
        for (buffer, _) in &state.sources {
            buffer.unmap();
        }
        state.submitted += 1;
        let number = state.submitted;
        let seen = state.tape.as_mut().map(|tape| tape.submitted(number, self.recorder.now()));
        let submission = self.queue.submit([encoder.finish()]);
        state.in_flight.push_back((number, submission));
        state.params_bytes.clear();
        state.dispatches = 0;
        for (buffer, ring) in state.sources.drain(..) {
            transfer::map_for_writing(buffer, ring);
        }
        for target in state.targets.drain(..) {
            target.map();
        }
        let (retired, recorder) = (self.retired.clone(), self.recorder.clone());
        self.queue.on_submitted_work_done(move || {
            retired.complete(number);
            if let Some(seen) = seen {
                timestamps::note(&recorder, &seen);
            }
        });
        self.check()?;
        let waits = state.tape.as_ref().is_some_and(Tape::waits);
        self.limit_flight(state, if waits { 0 } else { SUBMISSIONS_IN_FLIGHT })
    }

    /// Waits until no more than `most` submissions are on their way.
    fn limit_flight(&self, state: &mut State, most: usize) -> Result<()> {
        // Callbacks of what is complete run here, so that staging memory comes back without anyone waiting for it.
        self.poll(wgpu::PollType::Poll)?;
        let completed = self.retired.completed();
        while state.in_flight.front().is_some_and(|(number, _)| *number <= completed) {
            state.in_flight.pop_front();
        }
        while state.in_flight.len() > most {
            let (number, submission) = state.in_flight.pop_front().expect("there are some");
            let _span = self.recorder.span(|| "waiting: the device's queue is full".into());
            self.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None })?;
            self.retired.complete(number);
        }
        Ok(())
    }

    /// Submits what is recorded, without waiting for it.
    pub(super) fn submit(&self) -> Result<()> {
        self.flush(&mut self.state())
    }

    pub(super) fn synchronize(&self) -> Result<()> {
        let last = {
            let mut state = self.state();
            self.flush(&mut state)?;
            state.submitted
        };
        let _span = self.recorder.span(|| "waiting for the device".into());
        self.wait_for(last)
    }

    /// Waits for a submission, after submitting it if need be.
    fn wait_for(&self, number: u64) -> Result<()> {
        let submission = {
            let mut state = self.state();
            if number > state.submitted {
                self.flush(&mut state)?;
            }
            state.in_flight.iter().find(|(n, _)| *n >= number).map(|(_, submission)| submission.clone())
        };
        // The lock is free meanwhile, so that others can go on recording.
        if let Some(submission) = submission {
            self.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None })?;
        }
        self.retired.complete(number);
        self.retired.release();
        Ok(())
    }

    fn poll(&self, how: wgpu::PollType) -> Result<()> {
        let polled = self.device.poll(how);
        self.check().inspect_err(|_| {
            // A device that failed uses nothing any more.
            self.retired.complete(u64::MAX);
            self.retired.release();
        })?;
        polled.map(|_| ()).map_err(|e| Error::Device(format!("waiting for the device failed: {e}")))
    }

    /// Begins to note what the device does.
    pub(super) fn begin_recording(&self, mode: Mode) -> Result<()> {
        self.synchronize()?;
        self.state().tape = Some(Tape::new(mode, self.device.features()));
        Ok(())
    }

    /// Ends it.
    pub(super) fn end_recording(&self) -> Result<(Clock, Vec<Event>)> {
        self.synchronize()?;
        let tape = self.state().tape.take();
        match tape {
            Some(tape) => tape.events(&self.device, &self.queue),
            None => Ok((Clock::Waits, Vec::new())),
        }
    }

    /// Bytes of the staging memory for uploads by whoever computes and for downloads.
    pub(super) fn staging_bytes(&self) -> u64 {
        self.uploads.bytes() + self.downloads.bytes()
    }
}

/// Ends the pass that is being recorded, if there is one.
fn end_pass(state: &mut State) {
    let Some(recorded) = &mut state.recorded else { return };
    if recorded.pass.take().is_none() {
        return;
    }
    let notes = std::mem::take(&mut recorded.notes);
    if let Some(tape) = state.tape.as_mut().filter(|_| !notes.kernels.is_empty()) {
        tape.add(notes.pair, state.submitted + 1, Track::Compute, Work::Kernels(notes.kernels));
    }
}

fn describe(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => "out of memory; a smaller --memory makes the plan use less".to_string(),
        other => other.to_string(),
    }
}
