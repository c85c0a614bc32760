//! Bits per channel.

use std::collections::BTreeMap;

use diffbir::imageio::{Depth, EncodeOptions, Format, Kept, Picture, encode};
use image::{DynamicImage, ImageFormat};
use ndarray::{Array3, s};

use crate::kinds::{color, file, read};

#[test]
fn eight_bits_of_sixteen_are_the_high_byte() {
    let deep = DynamicImage::ImageRgb16(color().to_rgb16());
    let picture = read(&file(&deep, ImageFormat::Png));
    assert_eq!(picture.rgb.slice(s![3, 5, ..]).to_vec(), [100, 90, 90]);
    let deep = picture.deep.unwrap();
    assert_eq!(
        deep.slice(s![3, 5, ..]).to_vec(),
        [100 * 257, 90 * 257, 90 * 257]
    );
}

/// All values of 16 bits, three at a time.
fn all_values() -> Array3<u16> {
    Array3::from_shape_fn((128, 171, 3), |(y, x, c)| (3 * (171 * y + x) + c) as u16)
}

fn encoded(rgb: &Array3<u16>, deep: bool, format: Format, depth: Depth) -> Picture {
    let kept = Kept {
        deep,
        ..Kept::default()
    };
    let options = EncodeOptions {
        format,
        depth,
        ..EncodeOptions::default()
    };
    read(&encode(rgb, &kept, options, &BTreeMap::new()).unwrap())
}

#[test]
fn sixteen_bits_are_kept_to_the_last_one() {
    let rgb = all_values();
    for format in [Format::Png, Format::Tiff] {
        assert_eq!(
            encoded(&rgb, true, format, Depth::Auto).deep.as_ref(),
            Some(&rgb)
        );
        assert_eq!(
            encoded(&rgb, false, format, Depth::Sixteen).deep.as_ref(),
            Some(&rgb)
        );
    }
}

#[test]
fn eight_bits_are_rounded_where_a_file_has_no_more_or_is_to_have_no_more() {
    let rgb = all_values();
    let nearest = rgb.mapv(|x| (f64::from(x) / 257.0).round() as u8);
    for (format, depth, deep) in [
        (Format::Png, Depth::Eight, true),
        (Format::Png, Depth::Auto, false),
        (Format::Tiff, Depth::Eight, true),
        (Format::Webp, Depth::Sixteen, true),
        (Format::Bmp, Depth::Auto, true),
    ] {
        let result = encoded(&rgb, deep, format, depth);
        assert_eq!(result.rgb, nearest, "{format:?} {depth:?}");
        assert!(result.deep.is_none(), "{format:?} {depth:?}");
    }
    // And eight bits become sixteen on request alone.
    let kept = Kept {
        deep: true,
        ..Kept::default()
    };
    for (depth, deep) in [(Depth::Auto, false), (Depth::Sixteen, true)] {
        let options = EncodeOptions {
            depth,
            ..EncodeOptions::default()
        };
        let result = read(&encode(&nearest, &kept, options, &BTreeMap::new()).unwrap());
        assert_eq!(result.rgb, nearest);
        assert_eq!(
            result.deep,
            deep.then(|| nearest.mapv(|x| u16::from(x) * 257))
        );
    }
}
