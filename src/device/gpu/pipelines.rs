//! Shaders as pipelines: each compiled once, and kept from run to run where the driver allows it.

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::kernels::Shader;

/// Begins a file of compiled pipelines; the checksum of the rest follows.
const MAGIC: &[u8] = b"efface-pipelines-1\n";
const CHECKSUM: usize = 32;

/// A compiled shader.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

type ByName = HashMap<(&'static str, &'static str), Arc<Pipeline>>;

/// The pipelines of a device.
#[derive(Debug)]
pub(super) struct Pipelines {
    device: wgpu::Device,
    checks: bool,
    cache: Option<(PathBuf, wgpu::PipelineCache)>,
    made: Mutex<ByName>,
}

impl Pipelines {
    /// None so far. `checks`: shaders check every access, as in tests. `directory`: where compiled pipelines are kept.
    pub(super) fn new(device: &wgpu::Device, checks: bool, directory: Option<&Path>) -> Self {
        let cache = directory.filter(|_| device.features().contains(wgpu::Features::PIPELINE_CACHE)).map(|directory| {
            let path = directory.join(file_name(&device.adapter_info(), checks));
            let data = read(&path);
            // SAFETY: the data is what `get_data` returned for this adapter and driver, as name and checksum of the file
            // say; wgpu and the driver hold it against their own marks, and start empty where it is not for them.
            let cache = unsafe {
                device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                    label: Some("efface"),
                    data: data.as_deref(),
                    fallback: true,
                })
            };
            (path, cache)
        });
        Pipelines { device: device.clone(), checks, cache, made: Mutex::default() }
    }

    /// The pipeline of `shader`. Errors of the device go where those of all its calls go.
    pub(super) fn get(&self, shader: &'static Shader) -> Arc<Pipeline> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry((shader.name, shader.variant)).or_insert_with(|| Arc::new(self.compile(shader))).clone()
    }

    fn compile(&self, shader: &'static Shader) -> Pipeline {
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
        let module = self.module(wgpu::ShaderModuleDescriptor {
            label: Some(shader.name),
            source: wgpu::ShaderSource::Wgsl(shader.source.into()),
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: self.cache.as_ref().map(|(_, cache)| cache),
        });
        Pipeline { pipeline, layout }
    }

    fn module(&self, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
        if self.checks {
            return self.device.create_shader_module(descriptor);
        }
        // Vulkan's and DX12's drivers keep accesses to buffers within their bindings without the shader's help.
        let bounds_checks = self.device.adapter_info().backend == wgpu::Backend::Metal;
        // SAFETY: the shaders are the crate's own, none comes from outside. naga validated them when the crate was built;
        // every loop has a bound and no divisor is zero; and the kernel tests pass with checks and, run with
        // EFFACE_SHADER_CHECKS=off, without.
        unsafe {
            let checks = wgpu::ShaderRuntimeChecks { bounds_checks, ..wgpu::ShaderRuntimeChecks::unchecked() };
            self.device.create_shader_module_trusted(descriptor, checks)
        }
    }
}

impl Drop for Pipelines {
    /// Keeps what was compiled. A cache that cannot be written costs the next run some time and nothing else.
    fn drop(&mut self) {
        let compiled = !self.made.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        let data = self.cache.as_ref().filter(|_| compiled).and_then(|(path, cache)| Some((path, cache.get_data()?)));
        if let Some((path, data)) = data
            && read(path).as_deref() != Some(&data)
        {
            let _ = write(path, &data);
        }
    }
}

/// What pipelines depend on beside the shaders, which the driver knows by their code.
fn file_name(adapter: &wgpu::AdapterInfo, checks: bool) -> String {
    let wgpu::AdapterInfo { name, vendor, device, driver, driver_info, backend, .. } = adapter;
    let version = env!("CARGO_PKG_VERSION");
    let key = format!("{name}\n{driver}\n{driver_info}\n{backend:?}\n{version}\n{checks}");
    let hash: String = Sha256::digest(key).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("pipelines-{vendor:04x}-{device:04x}-{hash}.bin")
}

/// What a file holds, if it is whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).ok()?;
    let (checksum, data) = bytes.strip_prefix(MAGIC)?.split_at_checked(CHECKSUM)?;
    (Sha256::digest(data)[..] == *checksum).then(|| data.to_vec())
}

/// Writes a file that appears whole or not at all.
fn write(path: &Path, data: &[u8]) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let bytes = [MAGIC, &Sha256::digest(data)[..], data].concat();
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_or_foreign_file_is_no_cache() {
        let root = tempfile::TempDir::new().unwrap();
        let path = root.path().join("deep/er/pipelines.bin");
        assert_eq!(read(&path), None);
        write(&path, b"compiled").unwrap();
        assert_eq!(read(&path).unwrap(), b"compiled");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read(&path), None, "the first {length} bytes");
        }
        for place in 0..whole.len() {
            let mut broken = whole.clone();
            broken[place] ^= 1;
            fs::write(&path, broken).unwrap();
            assert_eq!(read(&path), None, "byte {place}");
        }
    }
}
