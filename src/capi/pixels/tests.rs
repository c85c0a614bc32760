use std::mem::size_of;

use super::*;
use crate::capi::diffbir_code;

fn description(data: &mut [u8], width: u32, height: u32) -> diffbir_pixels {
    diffbir_pixels {
        struct_size: size_of::<diffbir_pixels>(),
        data: data.as_mut_ptr().cast(),
        size: data.len(),
        width,
        height,
        value_type: 1,
        channels: 1,
        layout: 1,
        reserved: 0,
        row_stride: 0,
        plane_stride: 0,
    }
}

/// Colours that 8 bits hold, and others.
fn sample(value_type: u32) -> (imageio::Pixels, Alpha) {
    let rgb = Array3::from_shape_fn((3, 4, 3), |(y, x, c)| y * 60 + x * 13 + c * 5 + 1);
    let rgb = match value_type {
        1 => rgb.mapv(|x| x as u8).into(),
        _ => rgb.mapv(|x| (x * 259) as u16).into(),
    };
    let alpha = Array2::from_shape_fn((3, 4), |(y, x)| (255 - y * 40 - x) as u8);
    (rgb, alpha)
}

#[test]
fn what_is_written_is_read_again_in_every_form() {
    for value_type in 1..=3 {
        let (rgb, alpha) = sample(value_type);
        for channels in 1..=4 {
            for layout in 1..=2 {
                for padding in [0, 7] {
                    let mut data = vec![0xee; 1000];
                    let mut given = description(&mut data, 4, 3);
                    (given.value_type, given.channels, given.layout) =
                        (value_type, channels, layout);
                    let value = [1, 2, 4][value_type as usize - 1];
                    let count = if channels > 2 { 4 } else { 3 };
                    let close = 4 * value * if layout == 1 { count } else { 1 };
                    if padding > 0 {
                        given.row_stride = close + padding;
                        given.plane_stride = 3 * (close + padding) + padding;
                    }
                    let pixels = Pixels::of("pixels", &raw const given).unwrap();
                    pixels.write(&rgb, Some(&alpha));
                    let (read, opaque) = pixels.read();
                    assert_eq!(
                        read,
                        rgb,
                        "{given:?}",
                        given = (value_type, channels, layout)
                    );
                    assert_eq!(opaque, (channels > 2).then(|| alpha.clone()));
                }
            }
        }
    }
}

#[test]
fn grey_is_read_into_three_channels_and_written_as_luma() {
    let mut data = vec![10, 200, 77, 0];
    let mut given = description(&mut data, 2, 2);
    given.channels = 5;
    let pixels = Pixels::of("pixels", &raw const given).unwrap();
    let (rgb, alpha) = pixels.read();
    assert_eq!(rgb.to_u8().slice(ndarray::s![0, 1, ..]).to_vec(), [200; 3]);
    assert!(alpha.is_none());
    pixels.write(&rgb, None);
    assert_eq!(data, [10, 200, 77, 0]);
}

#[test]
fn floats_are_rounded_and_clipped() {
    let read = |value: f32| diffbir_type::F32.read(&value.to_ne_bytes());
    assert_eq!(
        [-1.0, 0.499 / 65535.0, 0.501 / 65535.0, 1.0, 3.0].map(read),
        [0, 0, 1, 65535, 65535]
    );
    assert_eq!(read(f32::NAN), 0);
}

#[test]
fn another_depth_is_the_nearest() {
    let deep = imageio::Pixels::from(Array3::from_elem((1, 1, 3), 129_u16));
    let wide = imageio::Pixels::from(Array3::from_elem((1, 1, 3), 200_u8));
    let written = |pixels: &imageio::Pixels, value_type| {
        let mut data = vec![0; 12];
        let mut given = description(&mut data, 1, 1);
        given.value_type = value_type;
        let place = Pixels::of("pixels", &raw const given).unwrap();
        place.write(pixels, None);
        data
    };
    assert_eq!(written(&deep, 1)[0], 1);
    assert_eq!(written(&wide, 2)[..2], 51_400_u16.to_ne_bytes());
    assert_eq!(written(&wide, 3)[..4], (200.0_f32 / 255.0).to_ne_bytes());
}

#[test]
fn descriptions_that_do_not_fit_are_refused() {
    type Change = fn(&mut diffbir_pixels);
    let cases: [(&str, Change); 10] = [
        ("width", |p| p.width = 0),
        ("height", |p| p.height = 0),
        ("data is NULL", |p| p.data = std::ptr::null_mut()),
        ("size is 35", |p| p.size = 35),
        ("row_stride is 11", |p| p.row_stride = 11),
        ("plane_stride is 11", |p| {
            (p.layout, p.plane_stride) = (2, 11)
        }),
        ("value_type is 4", |p| p.value_type = 4),
        ("channels is 0", |p| p.channels = 0),
        ("layout is 9", |p| p.layout = 9),
        ("too large", |p| {
            (p.row_stride, p.height) = (usize::MAX / 2, 9)
        }),
    ];
    for (sign, change) in cases {
        let mut data = vec![0; 36];
        let mut given = description(&mut data, 4, 3);
        assert!(Pixels::of("pixels", &raw const given).is_ok());
        change(&mut given);
        let failure = Pixels::of("pixels", &raw const given).unwrap_err();
        assert_eq!(failure.code, diffbir_code::InvalidArgument);
        assert!(
            failure.message.contains(sign),
            "{sign}: {}",
            failure.message
        );
    }
}
