//! Importance for each form in one pass: that of a pass over the form's samples alone; and what comes of combining them.

mod common;

use std::sync::Arc;

use common::{Golden, cpu, gpu, relative};
use efface::device::Device;
use efface::kernels::Accumulate;
use efface::model::batch::Tokens;
use efface::stream::{PassOptions, Unit};
use efface::unlearn::edit::{Comparison, Dampening};
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::forget;
use efface::unlearn::forms::{FormSamples, by_form, measure};
use efface::unlearn::measured::Measured;
use efface::unlearn::selection::{Against, Combine, Granularity};
use efface::unlearn::store::MemoryStore;

fn units(samples: &[Arc<Tokens>]) -> Vec<Unit> {
    Estimator::Sample.units(samples, Loss::Mean, BatchWeight::Samples)
}

fn forms(golden: &Golden) -> Vec<FormSamples> {
    // Mixed in the file, so that they must be sorted.
    by_form(&golden.samples, |number| ["a", "b", "c"][number % 3].into())
}

fn alone(golden: &Golden, device: &Device, samples: &[Arc<Tokens>]) -> Measured {
    let wanted = vec![true; golden.model.parameters.len()];
    let store = Box::new(MemoryStore::new(&golden.model));
    let pass = golden.pass(device, PassOptions::default());
    forget::measure(&pass, &units(samples), Accumulate::Square, &wanted, store, &|_, _| {}).unwrap()
}

fn together(golden: &Golden, device: &Device, combine: Combine, options: PassOptions) -> Measured {
    let wanted = vec![true; golden.model.parameters.len()];
    let pass = golden.pass(device, options);
    let store = || -> efface::Result<Box<dyn efface::unlearn::store::Store + Send + Sync>> {
        Ok(Box::new(MemoryStore::new(&golden.model)))
    };
    measure(&pass, &forms(golden), (combine, Accumulate::Square), units, &wanted, store, &|_, _| {}).unwrap()
}

#[test]
fn each_form_is_measured_as_if_alone() {
    for device in [cpu(), gpu()] {
        for name in ["llama-tied-twice", "gpt2", "qwen3"] {
            let golden = Golden::open(name);
            // Several groups as well: one sample's activations fit.
            let small = PassOptions { host_memory: Some(300 << 10), ..PassOptions::default() };
            for (options, memory) in [(PassOptions::default(), u64::MAX), (small, 1 << 20)] {
                device.set_memory(memory);
                let measured = together(&golden, &device, Combine::Min, options);
                device.set_memory(u64::MAX);
                let (sums, combine) = measured.consensus().unwrap();
                assert_eq!((sums.len(), combine), (3, Combine::Min));
                for (form, samples) in sums.iter().zip(forms(&golden)) {
                    let want = alone(&golden, &device, &samples.samples);
                    assert_eq!((form.units, &form.name), (samples.samples.len(), &samples.name));
                    for (id, parameter) in golden.model.parameters.iter().enumerate() {
                        let got = form.store.all(id, Accumulate::Square).unwrap();
                        let want = want.values(id, parameter).unwrap();
                        match device.is_cpu() {
                            true => assert!(relative(&got, &want) < 1e-5, "{name} {}", parameter.name),
                            false => assert!(got == want, "{name} {} under {memory}", parameter.name),
                        }
                    }
                }
            }
        }
    }
}

/// In float64, element by element: selected where K forms' own ratios exceed the threshold.
#[test]
fn a_quorum_selects_what_so_many_forms_select() {
    let golden = Golden::open("llama");
    for device in [cpu(), gpu()] {
        let each: Vec<Measured> = forms(&golden).iter().map(|form| alone(&golden, &device, &form.samples)).collect();
        let allowed = vec![true; golden.model.parameters.len()];
        // The retain set is all forms together, so that the largest ratio is mostly above 1 and the smallest below it.
        for (combine, quorum, threshold) in [
            (Combine::Quorum(1), 1, 1.5f32),
            (Combine::Quorum(2), 2, 1.0),
            (Combine::Quorum(3), 3, 0.4),
            (Combine::Min, 3, 0.4),
        ] {
            let sums =
                (together(&golden, &device, combine, PassOptions::default()), alone(&golden, &device, &golden.samples));
            let comparison =
                Comparison::new(golden.model.clone(), sums, Against::Retain, &allowed, Granularity::Element).unwrap();
            let retain = alone(&golden, &device, &golden.samples);
            let (mut selected, mut checked) = (0, 0);
            for (id, parameter) in golden.model.parameters.iter().enumerate() {
                let scaled = |measured: &Measured| -> Vec<f64> {
                    let values = measured.values(id, parameter).unwrap();
                    values.iter().map(|v| f64::from(*v) * f64::from(measured.scale())).collect()
                };
                let (kept, forms): (Vec<f64>, Vec<Vec<f64>>) = (scaled(&retain), each.iter().map(scaled).collect());
                let mask = comparison.selected(&device, id, threshold).unwrap().unwrap();
                for i in 0..parameter.count() {
                    let ratios: Vec<f64> = forms.iter().map(|form| form[i] / kept[i]).collect();
                    // What is at the threshold may fall on either side.
                    if ratios.iter().any(|ratio| (ratio / f64::from(threshold) - 1.0).abs() < 1e-4 || ratio.is_nan()) {
                        continue;
                    }
                    let above = ratios.iter().filter(|ratio| **ratio > f64::from(threshold)).count();
                    let got = mask[i / 32] >> (i % 32) & 1 == 1;
                    assert_eq!(got, above >= quorum, "{combine} {} {i}: {ratios:?}", parameter.name);
                    selected += usize::from(got);
                    checked += 1;
                }
            }
            assert!(selected > 50 && selected < checked - 50, "{combine}: {selected} of {checked}");
            let overlap = comparison.overlap(&device, threshold).unwrap().unwrap();
            assert!((0..3).all(|i| overlap.jaccard(i, i) == Some(1.0) && overlap.common[0][i] == overlap.common[i][0]));
            let ratios = comparison.ratios(&device, &|_, _| {}).unwrap();
            assert_eq!(ratios.total(), golden.model.parameter_count() as u64);
        }
    }
}

/// All granularities, and one form alone, which changes nothing.
#[test]
fn groups_and_single_forms() {
    let golden = Golden::open("qwen3");
    let device = cpu();
    let allowed = vec![true; golden.model.parameters.len()];
    let retain = || alone(&golden, &device, &golden.samples[3..]);
    for granularity in [Granularity::Row, Granularity::Column, Granularity::Head, Granularity::Tensor] {
        let sums = (together(&golden, &device, Combine::Geomean, PassOptions::default()), retain());
        let comparison = Comparison::new(golden.model.clone(), sums, Against::Retain, &allowed, granularity).unwrap();
        let histogram = comparison.ratios(&device, &|_, _| {}).unwrap();
        let threshold = histogram.threshold_for_share(0.3);
        let bits: u64 = (0..golden.model.parameters.len())
            .filter_map(|id| comparison.selected(&device, id, threshold).unwrap())
            .map(|mask| mask.iter().map(|word| u64::from(word.count_ones())).sum::<u64>())
            .sum();
        assert_eq!(bits as f64, histogram.selected(threshold), "{granularity:?}");
        assert_eq!(comparison.overlap(&device, threshold).unwrap().unwrap().forms, ["a", "b", "c"]);
    }
    let one = [FormSamples { name: "only".into(), samples: golden.samples[..3].to_vec() }];
    let pass = golden.pass(&device, PassOptions::default());
    let store = || -> efface::Result<Box<dyn efface::unlearn::store::Store + Send + Sync>> {
        Ok(Box::new(MemoryStore::new(&golden.model)))
    };
    let single =
        measure(&pass, &one, (Combine::Geomean, Accumulate::Square), units, &allowed, store, &|_, _| {}).unwrap();
    let edits = |forget: Measured| {
        let sums = (forget, retain());
        let comparison =
            Comparison::new(golden.model.clone(), sums, Against::Retain, &allowed, Granularity::Element).unwrap();
        assert!(comparison.overlap(&device, 1.0).unwrap().is_none());
        let dampening = Dampening { threshold: 1.0, lambda: 0.5 };
        let edit = |(id, parameter): (usize, &efface::model::Parameter)| {
            let tensor = golden.checkpoint.tensor(&parameter.name).unwrap();
            let stored = (tensor.element.unwrap(), golden.checkpoint.bytes(tensor));
            comparison.dampen(&device, id, stored, dampening).unwrap().unwrap().bytes
        };
        golden.model.parameters.iter().enumerate().map(edit).collect::<Vec<_>>()
    };
    assert!(edits(single) == edits(alone(&golden, &device, &golden.samples[..3])));
    let many =
        measure(&pass, &forms(&golden), (Combine::Quorum(4), Accumulate::Square), units, &allowed, store, &|_, _| {});
    assert!(many.unwrap_err().is_input());
}
