//! Bits per channel.

use std::collections::BTreeMap;

use diffbir::imageio::{BitDepth, Depth, EncodeOptions, Format, Kept, Picture, Pixels, encode};
use image::{DynamicImage, ImageFormat};
use ndarray::{Array3, s};

use crate::kinds::{color, file, read};

#[test]
fn sixteen_bits_are_read_as_sixteen_and_floats_too() {
    let expected = [100 * 257, 90 * 257, 90 * 257];
    for image in [
        DynamicImage::ImageRgb16(color().to_rgb16()),
        DynamicImage::ImageRgb32F(color().to_rgb32f()),
    ] {
        let Pixels::U16(rgb) = read(&file(&image, ImageFormat::Tiff)).pixels else {
            panic!("8 bits");
        };
        assert_eq!(rgb.slice(s![3, 5, ..]).to_vec(), expected);
    }
}

/// All values of 16 bits, three at a time.
fn all_values() -> Array3<u16> {
    Array3::from_shape_fn((128, 171, 3), |(y, x, c)| (3 * (171 * y + x) + c) as u16)
}

fn encoded(rgb: &Array3<u16>, depth_of_input: BitDepth, format: Format, depth: Depth) -> Picture {
    let kept = Kept {
        depth: depth_of_input,
        ..Kept::default()
    };
    let options = EncodeOptions {
        format,
        depth,
        ..EncodeOptions::default()
    };
    read(&encode(&rgb.clone().into(), &kept, options, &BTreeMap::new()).unwrap())
}

#[test]
fn sixteen_bits_are_kept_to_the_last_one() {
    let rgb = all_values();
    for format in [Format::Png, Format::Tiff] {
        assert_eq!(
            encoded(&rgb, BitDepth::Sixteen, format, Depth::Auto).pixels,
            rgb.clone().into()
        );
        assert_eq!(
            encoded(&rgb, BitDepth::Eight, format, Depth::Sixteen).pixels,
            rgb.clone().into()
        );
    }
}

#[test]
fn eight_bits_are_rounded_where_a_file_has_no_more_or_is_to_have_no_more() {
    let rgb = all_values();
    let nearest = rgb.mapv(|x| (f64::from(x) / 257.0).round() as u8);
    for (format, depth, input) in [
        (Format::Png, Depth::Eight, BitDepth::Sixteen),
        (Format::Png, Depth::Auto, BitDepth::Eight),
        (Format::Tiff, Depth::Eight, BitDepth::Sixteen),
        (Format::Webp, Depth::Sixteen, BitDepth::Sixteen),
        (Format::Bmp, Depth::Auto, BitDepth::Sixteen),
    ] {
        let result = encoded(&rgb, input, format, depth);
        assert_eq!(
            result.pixels,
            nearest.clone().into(),
            "{format:?} {depth:?}"
        );
    }
    // And eight bits become sixteen on request alone.
    let kept = Kept {
        depth: BitDepth::Sixteen,
        ..Kept::default()
    };
    let wide = nearest.mapv(|x| u16::from(x) * 257);
    for (depth, expected) in [
        (Depth::Auto, Pixels::from(nearest.clone())),
        (Depth::Sixteen, Pixels::from(wide)),
    ] {
        let options = EncodeOptions {
            depth,
            ..EncodeOptions::default()
        };
        let result =
            read(&encode(&nearest.clone().into(), &kept, options, &BTreeMap::new()).unwrap());
        assert_eq!(result.pixels, expected);
    }
}
