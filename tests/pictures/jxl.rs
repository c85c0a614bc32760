//! JPEG XL, which is read. The files are written by libjxl (tests/goldens/pictures/make.py says how).

use diffbir::error::ErrorKind;
use diffbir::imageio::{BitDepth, DecodeOptions, Format, decode};
use ndarray::Array3;

use crate::kinds::{LIMIT, color, golden, read};

fn colors() -> Array3<u8> {
    let rgb = color().to_rgb8();
    Array3::from_shape_vec((8, 12, 3), rgb.into_raw()).unwrap()
}

fn largest_difference(a: &Array3<u8>, b: &Array3<u8>) -> u8 {
    assert_eq!(a.dim(), b.dim());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn lossless_colours_and_alpha_are_read() {
    let still = read(&golden("pictures/still.jxl"));
    assert!(largest_difference(&still.pixels.to_u8(), &colors()) <= 1);
    assert!(still.kept.alpha.is_none() && still.kept.depth == BitDepth::Eight);
    // It is not written: in the input's format means PNG.
    assert_eq!(still.kept.format, Format::Png);
    let with_alpha = read(&golden("pictures/alpha.jxl"));
    assert!(largest_difference(&with_alpha.pixels.to_u8(), &colors()) <= 1);
    let alpha = with_alpha.kept.alpha.unwrap();
    assert!(
        alpha
            .indexed_iter()
            .all(|((_, x), alpha)| usize::from(*alpha) == 255 - 10 * x)
    );
}

#[test]
fn a_container_keeps_its_profile_and_exif() {
    let picture = read(&golden("pictures/metadata.jxl"));
    assert!(picture.kept.icc.is_some());
    assert_eq!(picture.pixels.to_u8().dim(), (8, 12, 3));
}

#[test]
fn animations_bombs_and_damage_are_refused() {
    let says = |bytes: &[u8], options: DecodeOptions| {
        let error = decode(bytes, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        error.to_string()
    };
    assert!(says(&golden("pictures/animated.jxl"), LIMIT).contains("animated"));
    let still = golden("pictures/still.jxl");
    let few = DecodeOptions {
        max_pixels: 95,
        ..LIMIT
    };
    assert!(says(&still, few).contains("96 pixels"));
    for length in 2..still.len() {
        says(&still[..length], LIMIT);
    }
}

#[test]
fn names_of_jpeg_xl_are_those_of_pictures() {
    use diffbir::imageio::is_picture_name;
    let is_one = |name: &str| is_picture_name(std::path::Path::new(name));
    assert!(is_one("a.jxl") && is_one("b.JXL") && is_one("c.png"));
    assert!(!is_one("jxl") && !is_one("a.txt"));
}
