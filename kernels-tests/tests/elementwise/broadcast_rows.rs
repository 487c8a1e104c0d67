//! One row for every token, on every device.

use efface::kernels::Window;
use efface::kernels::elementwise::broadcast_rows::{Params, reference, run};
use kernels_tests::{Random, devices};

#[test]
fn writes_the_row_and_nothing_beside_it() {
    let mut random = Random::new("elementwise/broadcast_rows");
    for (tokens, width) in [(1, 1), (random.size(2, 90), random.size(2, 700))] {
        let stride = width + 5;
        let (row, old) = (random.values(width), random.values(tokens * stride));
        let want: Vec<f32> = (0..tokens * stride)
            .map(|i| match i % stride {
                column @ 2.. if column < 2 + width => row[column - 2],
                _ => old[i],
            })
            .collect();
        for device in devices() {
            let [br, by] = [&row, &old].map(|v| device.upload_new(v).unwrap());
            run(device, tokens, width, &br, Window::at(&by, stride, 2)).unwrap();
            assert_eq!(device.read::<f32>(&by, old.len()).unwrap(), want, "{}", device.name());
        }
        let p = Params { tokens: tokens as u32, width: width as u32, y_stride: stride as u32, y_offset: 2 };
        let mut plain = old.clone();
        reference(&p, &row, &mut plain);
        assert_eq!(plain, want, "reference");
    }
}
