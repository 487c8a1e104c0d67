//! A device that fails in the middle of a run: an error that is no fault of the input, no panic and no hang.

mod common;

use std::cell::Cell;

use common::{Golden, cpu, gpu};
use efface::Error;
use efface::device::Device;
use efface::kernels::Accumulate;
use efface::stream::PassOptions;
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::importance::ImportanceSink;
use efface::unlearn::store::MemoryStore;

/// Measures, and does something to the device after `steps` steps of progress.
fn interrupted(device: &Device, steps: usize, mut harm: impl FnMut()) -> efface::Result<()> {
    let golden = Golden::open("llama");
    let units = Estimator::Sample.units(&golden.samples, Loss::Mean, BatchWeight::Samples);
    let mut store = MemoryStore::new(&golden.model);
    let mut sink = ImportanceSink::new(&golden.model, vec![Accumulate::Square], &mut store);
    let ticks = Cell::new(0);
    let harm = std::cell::RefCell::new(&mut harm);
    let progress = |_: u64, _: u64| {
        ticks.set(ticks.get() + 1);
        if ticks.get() == steps {
            (harm.borrow_mut())();
        }
    };
    golden.pass(device, PassOptions::default()).gradients(&units, &mut sink, &progress)?;
    assert!(ticks.get() >= steps, "only {} steps were told", ticks.get());
    Ok(())
}

#[test]
fn a_lost_gpu_is_an_error() {
    for steps in [1, 3, 6] {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
        let descriptor =
            wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..wgpu::DeviceDescriptor::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let ours = Device::from_wgpu(device.clone(), queue, 1 << 30).unwrap();
        let error = interrupted(&ours, steps, || device.destroy()).unwrap_err();
        assert!(matches!(error, Error::Device(_)), "{error}");
        // It stays lost, and says so again.
        assert!(matches!(interrupted(&ours, usize::MAX, || {}), Err(Error::Device(_))));
    }
}

#[test]
fn memory_that_runs_out_is_an_error() {
    for device in [cpu(), gpu()] {
        for steps in [1, 3, 6] {
            device.set_memory(1 << 30);
            let shrunk = device.clone();
            let result = interrupted(&device, steps, || shrunk.set_memory(1));
            assert!(matches!(result, Err(Error::Budget { .. } | Error::Device(_))), "{result:?}");
            device.set_memory(1 << 30);
            device.free_scratch();
            // Nothing of it is left once the device is done: it is as good as new.
            device.synchronize().unwrap();
            assert_eq!(device.budget().used(), 0);
            interrupted(&device, 1, || {}).unwrap();
            device.free_scratch();
        }
    }
}
