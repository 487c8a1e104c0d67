//! Which adapters the machine has, what they offer, and which one a `--device` choice takes.

use std::str::FromStr;

use super::{Device, Features, Options};
use crate::kernels::tuning::Tuning;
use crate::{Error, Result};

/// The meaning of `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Choice {
    /// A hardware GPU if there is one, else the CPU; never a software driver.
    #[default]
    Auto,
    /// The CPU twin.
    Cpu,
    /// A hardware GPU if there is one, else a software driver; never the CPU twin.
    Gpu,
    /// The adapter with this number in [`adapters`].
    Adapter(usize),
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Choice::Auto => f.write_str("auto"),
            Choice::Cpu => f.write_str("cpu"),
            Choice::Gpu => f.write_str("gpu"),
            Choice::Adapter(number) => write!(f, "gpu:{number}"),
        }
    }
}

impl FromStr for Choice {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Choice::Auto),
            None if text == "cpu" => Ok(Choice::Cpu),
            None if text == "gpu" => Ok(Choice::Gpu),
            Some(("gpu", number)) if number.parse::<usize>().is_ok() => {
                Ok(Choice::Adapter(number.parse().unwrap_or(0)))
            }
            _ => Err(Error::argument(format!("{text:?} is no device; right are auto, cpu, gpu and gpu:N"))),
        }
    }
}

/// What an adapter is and what matters of its limits and features.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterReport {
    /// The number that `gpu:N` takes.
    pub number: usize,
    /// The adapter's name.
    pub name: String,
    /// Vulkan, Metal or Dx12.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// Whether it computes on a GPU (discrete, integrated or virtual) rather than in software.
    pub hardware: bool,
    /// The largest storage binding, in bytes.
    pub max_binding: u64,
    /// The largest buffer, in bytes.
    pub max_buffer: u64,
    /// Workgroup memory, in bytes.
    pub workgroup_memory: u32,
    /// Invocations in one workgroup.
    pub max_invocations: u32,
    /// Smallest and largest subgroup.
    pub subgroup_size: [u32; 2],
    /// Half-precision arithmetic in shaders.
    pub shader_f16: bool,
    /// Timestamps for profiling.
    pub timestamps: bool,
    /// Cooperative matrices (matrix units).
    pub cooperative_matrices: bool,
}

fn backends() -> wgpu::Backends {
    wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends();
    pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backends()))
}

fn is_hardware(info: &wgpu::AdapterInfo) -> bool {
    matches!(
        info.device_type,
        wgpu::DeviceType::DiscreteGpu | wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::VirtualGpu
    )
}

fn report(number: usize, adapter: &wgpu::Adapter) -> AdapterReport {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    AdapterReport {
        number,
        backend: format!("{:?}", info.backend),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        hardware: is_hardware(&info),
        name: info.name,
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        subgroup_size: [info.subgroup_min_size, info.subgroup_max_size],
        shader_f16: features.contains(wgpu::Features::SHADER_F16),
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        cooperative_matrices: features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
    }
}

/// All adapters of the machine, in the order in which `gpu:N` numbers them.
pub fn adapters() -> Vec<AdapterReport> {
    enumerate().iter().enumerate().map(|(number, adapter)| report(number, adapter)).collect()
}

/// Which adapter `choice` takes: its number, or none for the CPU.
///
/// # Errors
/// When the choice asks for an adapter that is not there.
fn choose(choice: Choice, hardware: &[bool]) -> Result<Option<usize>> {
    let first = hardware.iter().position(|hardware| *hardware);
    match choice {
        Choice::Cpu => Ok(None),
        Choice::Auto => Ok(first),
        Choice::Gpu if hardware.is_empty() => Err(Error::argument(
            "--device gpu: this machine has no adapter that wgpu can use; right here is --device cpu",
        )),
        Choice::Gpu => Ok(Some(first.unwrap_or(0))),
        Choice::Adapter(number) if number < hardware.len() => Ok(Some(number)),
        Choice::Adapter(number) => Err(Error::argument(format!(
            "--device gpu:{number}: there are {} adapters, numbered from 0 (see `efface devices`)",
            hardware.len()
        ))),
    }
}

/// Opens the device that `choice` takes, with `memory` bytes as its budget (none: all that the device has).
///
/// # Errors
/// When there is no such adapter, or it cannot be opened.
pub fn open(choice: Choice, memory: Option<u64>) -> Result<Device> {
    open_with(choice, &Options { memory, ..Options::default() })
}

/// Opens the device that `choice` takes.
///
/// # Errors
/// When there is no such adapter, or it cannot be opened.
pub fn open_with(choice: Choice, options: &Options) -> Result<Device> {
    let memory = options.memory.unwrap_or(u64::MAX);
    if choice == Choice::Cpu {
        return Ok(Device::cpu(memory));
    }
    let mut found = enumerate();
    let hardware: Vec<bool> = found.iter().map(|adapter| is_hardware(&adapter.get_info())).collect();
    let Some(number) = choose(choice, &hardware)? else { return Ok(Device::cpu(memory)) };
    let adapter = found.swap_remove(number);
    // SAFETY: matrix units are used through wgpu's experimental interface, which may have bugs that its safe face does not
    // catch. No kernel uses it unless it is asked for (`--precision mixed`) and a product on this device came out right.
    let experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("efface"),
        required_features: adapter.features() & Features::wanted(),
        experimental_features,
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    }))
    .map_err(|e| Error::Device(format!("{}: {e}", adapter.get_info().name)))?;
    let device = Device::assemble(device, queue, options, &adapter.cooperative_matrix_properties())?;
    Ok(match &options.tuning {
        Some(path) => device.with_tuning(Tuning::read(device.tuning().class(), &device.name(), path)),
        None => device,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_never_takes_a_software_driver() {
        assert_eq!(choose(Choice::Auto, &[false]).unwrap(), None);
        assert_eq!(choose(Choice::Auto, &[]).unwrap(), None);
        assert_eq!(choose(Choice::Auto, &[false, true]).unwrap(), Some(1));
    }

    #[test]
    fn gpu_takes_hardware_first_and_never_the_cpu() {
        assert_eq!(choose(Choice::Gpu, &[false, true]).unwrap(), Some(1));
        assert_eq!(choose(Choice::Gpu, &[false]).unwrap(), Some(0));
        assert!(choose(Choice::Gpu, &[]).unwrap_err().is_input());
        assert!(choose(Choice::Adapter(2), &[true, true]).unwrap_err().is_input());
    }

    #[test]
    fn device_choices_are_read() {
        assert_eq!("gpu:3".parse::<Choice>().unwrap(), Choice::Adapter(3));
        assert!("gpu:x".parse::<Choice>().is_err());
        assert!("cuda".parse::<Choice>().is_err());
    }
}
