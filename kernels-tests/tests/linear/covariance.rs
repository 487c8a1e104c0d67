//! The covariance on every device: both tiles, windows, selections in any order, blocks of rows, and splits that must not
//! change bits.

use efface::device::Device;
use efface::kernels::Window;
use efface::kernels::linear::covariance::{BLOCK_ROWS, Params, cost, reference, run};
use kernels_tests::{Random, assert_close, devices};

use crate::dense;

const OFFSET: usize = 3;

/// Activations within wider rows, which of them count, and the sum before.
struct Case {
    width: usize,
    stride: usize,
    x: Vec<f32>,
    selected: Vec<u32>,
    start: Vec<f32>,
}

impl Case {
    fn new(random: &mut Random, width: usize) -> Self {
        let tokens = random.size(20, 70);
        let stride = width + OFFSET + random.size(0, 5);
        let count = random.size(17, 60);
        let selected = (0..count).map(|_| random.size(0, tokens - 1) as u32).collect();
        Case { width, stride, x: random.values(tokens * stride), selected, start: random.values(width * width) }
    }

    /// What a device adds to `start`'s rows `first .. first + rows` for the selected tokens `from .. to`.
    fn on(
        &self,
        device: &Device,
        (from, to): (usize, usize),
        (first, rows): (usize, usize),
        start: &[f32],
    ) -> Vec<f32> {
        let selected = device.upload_new(&self.selected[from..to]).unwrap();
        let x = device.upload_new(&self.x).unwrap();
        let covariance = device.upload_new(start).unwrap();
        let window = Window::at(&x, self.stride, OFFSET);
        run(device, (to - from, &selected), window, self.width, (first, rows), &covariance).unwrap();
        device.read(&covariance, rows * self.width).unwrap()
    }

    fn all(&self, device: &Device) -> Vec<f32> {
        self.on(device, (0, self.selected.len()), (0, self.width), &self.start)
    }

    /// The elements on and above C's diagonal of a block that begins at row `first`.
    fn upper<T: Copy>(&self, first: usize, block: &[T]) -> Vec<T> {
        block.chunks(self.width).enumerate().flat_map(|(r, row)| row[first + r..].to_vec()).collect()
    }

    /// The formula in float64.
    fn formula(&self) -> Vec<f64> {
        let x = dense(&self.x, self.stride, OFFSET, self.width);
        let mut sum: Vec<f64> = self.start.iter().map(|v| f64::from(*v)).collect();
        for row in self.selected.iter().map(|token| &x[*token as usize]) {
            for (i, sum) in sum.iter_mut().enumerate() {
                *sum += row[i / self.width] * row[i % self.width];
            }
        }
        sum
    }
}

#[test]
fn matches_float64() {
    let mut random = Random::new("linear/covariance");
    for width in [random.size(1, 15), random.size(17, 63), random.size(65, 127), random.size(129, 190)] {
        let case = Case::new(&mut random, width);
        let want = case.upper(0, &case.formula());
        for device in devices() {
            let got = case.upper(0, &case.all(device));
            assert_close(&format!("{} width {width}", device.name()), &got, &want, 1e-6);
        }
        let params = Params {
            count: case.selected.len() as u32,
            width: width as u32,
            first_row: 0,
            rows: width as u32,
            stride: case.stride as u32,
            offset: OFFSET as u32,
        };
        let mut plain = case.start.clone();
        reference(&params, &case.selected, &case.x, &mut plain);
        assert_close("reference", &case.upper(0, &plain), &want, 1e-6);
        // The reference touches nothing below the diagonal.
        let below = (1..width).flat_map(|r| (0..r).map(move |c| r * width + c));
        assert!(below.into_iter().all(|i| plain[i] == case.start[i]));
        assert_eq!(cost(&params).operations, (case.selected.len() * width * (width + 1)) as u64);
    }
}

/// Blocks of rows give what the whole gives: on a GPU bit for bit.
#[test]
fn blocks_of_rows_make_the_whole() {
    let mut random = Random::new("linear/covariance blocks");
    let case = Case::new(&mut random, 2 * BLOCK_ROWS + 31);
    let want = case.formula();
    for device in devices() {
        let whole = case.all(device);
        for first in (0..case.width).step_by(BLOCK_ROWS) {
            let rows = BLOCK_ROWS.min(case.width - first);
            let range = first * case.width..(first + rows) * case.width;
            let got = case.on(device, (0, case.selected.len()), (first, rows), &case.start[range.clone()]);
            let got = case.upper(first, &got);
            assert_close(&device.name(), &got, &case.upper(first, &want[range.clone()]), 1e-6);
            if !device.is_cpu() {
                assert_eq!(got, case.upper(first, &whole[range]), "{} from row {first}", device.name());
            }
        }
    }
}

#[test]
fn splits_of_the_tokens_keep_the_bits() {
    let mut random = Random::new("linear/covariance splits");
    for width in [random.size(17, 60), random.size(66, 120)] {
        let case = Case::new(&mut random, width);
        let count = case.selected.len();
        let cut = random.size(1, count - 1);
        for device in devices() {
            let first = case.on(device, (0, cut), (0, width), &case.start);
            let both = case.upper(0, &case.on(device, (cut, count), (0, width), &first));
            let whole = case.upper(0, &case.all(device));
            if device.is_cpu() {
                let whole: Vec<f64> = whole.iter().map(|v| f64::from(*v)).collect();
                assert_close("cpu", &both, &whole, 1e-6);
            } else {
                assert_eq!(both, whole, "{} cut at {cut}", device.name());
            }
        }
    }
}

#[test]
fn no_token_adds_nothing() {
    let mut random = Random::new("linear/covariance none");
    let width = random.size(1, 80);
    let case = Case::new(&mut random, width);
    for device in devices() {
        let got = case.on(device, (5, 5), (0, width), &case.start);
        assert_eq!(case.upper(0, &got), case.upper(0, &case.start), "{}", device.name());
    }
}
