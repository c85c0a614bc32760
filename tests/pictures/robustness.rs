//! Files of other programs, too large files, and damaged ones.

use diffbir::imageio::{DecodeOptions, decode, luma};
use image::ImageFormat;
use ndarray::{Array2, s};

use crate::kinds::{LIMIT, file, golden, kinds, opaque, read};

#[test]
fn another_programs_files_hold_the_same_colours() {
    let expected = read(&file(&opaque(), ImageFormat::Png)).pixels.into_u8();
    for name in [
        "lzw.tif",
        "deflate.tif",
        "packbits.tif",
        "pages.tif",
        "metadata.webp",
    ] {
        assert_eq!(
            read(&golden(&format!("pictures/{name}"))).pixels.into_u8(),
            expected,
            "{name}"
        );
    }
    for name in ["lossy.webp", "jpeg.tif", "cmyk.tif", "palette.bmp"] {
        let found = read(&golden(&format!("pictures/{name}"))).pixels.into_u8();
        let largest = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert!(largest.unwrap() <= 40, "{name}: {largest:?}");
    }
    let grey = read(&golden("pictures/grey_alpha.tif"));
    let pillows = |(y, x): (usize, usize)| luma([0, 1, 2].map(|c| expected[[y, x, c]]));
    assert_eq!(
        grey.pixels.to_u8().slice(s![.., .., 0]),
        Array2::from_shape_fn((8, 12), pillows)
    );
    let alpha = Array2::from_shape_fn((8, 12), |(_, x)| 255 - (x * 10) as u8);
    assert_eq!(grey.kept.alpha, Some(alpha));
}

#[test]
fn every_kind_is_held_to_the_limit_of_pixels() {
    for kind in kinds() {
        let limit = DecodeOptions::up_to((kind.size.0 * kind.size.1 - 1) as u64);
        let error = decode(&kind.bytes, limit).unwrap_err().to_string();
        assert!(
            error.contains("more than the limit"),
            "{}: {error}",
            kind.what
        );
    }
}

#[test]
fn damaged_files_of_every_kind_are_refused_or_read() {
    for kind in kinds() {
        let step = kind.bytes.len() / 50 + 1;
        for at in (0..kind.bytes.len()).step_by(step) {
            let _ = decode(&kind.bytes[..at], LIMIT);
            let mut bytes = kind.bytes.clone();
            bytes[at] ^= 0x55;
            let _ = decode(&bytes, LIMIT);
        }
    }
}
