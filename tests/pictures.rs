//! Every kind of picture file is read, and what cannot be carried over is named.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::io::Cursor;

use diffbir::imageio::{Picture, decode};
use image::{DynamicImage, ImageFormat, Rgb, Rgba};
use ndarray::s;

const LIMIT: u64 = 1 << 20;

fn color() -> DynamicImage {
    let pixel = |x: u32, y: u32| Rgba([(x * 20) as u8, (y * 30) as u8, 90, 255 - (x * 10) as u8]);
    DynamicImage::ImageRgba8(image::RgbaImage::from_fn(12, 8, pixel))
}

fn read(image: &DynamicImage, format: ImageFormat) -> Picture {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    decode(bytes.get_ref(), LIMIT).unwrap()
}

#[test]
fn lossless_formats_give_the_pixels_back() {
    let rgb = DynamicImage::ImageRgb8(color().to_rgb8());
    for format in [
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::WebP,
    ] {
        let picture = read(&rgb, format);
        assert_eq!(picture.rgb.dim(), (8, 12, 3), "{format:?}");
        assert_eq!(
            picture.rgb.slice(s![3, 5, ..]).to_vec(),
            [100, 90, 90],
            "{format:?}"
        );
        assert!(
            picture.dropped.is_empty(),
            "{format:?}: {:?}",
            picture.dropped
        );
    }
}

#[test]
fn jpeg_comes_close() {
    let gradient =
        image::RgbImage::from_fn(64, 48, |x, y| Rgb([(x * 3) as u8, (y * 4) as u8, 128]));
    let picture = read(
        &DynamicImage::ImageRgb8(gradient.clone()),
        ImageFormat::Jpeg,
    );
    let pairs = picture.rgb.iter().zip(gradient.as_raw());
    let mean = pairs.map(|(&a, &b)| f64::from(a.abs_diff(b))).sum::<f64>() / (64.0 * 48.0 * 3.0);
    assert!(mean < 4.0, "mean difference {mean}");
}

#[test]
fn alpha_is_dropped_not_blended() {
    let picture = read(&color(), ImageFormat::Png);
    assert_eq!(picture.rgb.slice(s![3, 5, ..]).to_vec(), [100, 90, 90]);
    assert_eq!(picture.dropped, ["alpha"]);
    let grey = DynamicImage::ImageLumaA8(color().to_luma_alpha8());
    assert_eq!(read(&grey, ImageFormat::Png).dropped, ["alpha"]);
}

#[test]
fn grey_becomes_equal_channels() {
    let grey = DynamicImage::ImageLuma8(color().to_luma8());
    let picture = read(&grey, ImageFormat::Png);
    assert!(
        picture
            .rgb
            .rows()
            .into_iter()
            .all(|p| p[0] == p[1] && p[1] == p[2])
    );
}

#[test]
fn sixteen_bits_of_every_kind_are_read() {
    for deep in [
        DynamicImage::ImageLuma16(color().to_luma16()),
        DynamicImage::ImageLumaA16(color().to_luma_alpha16()),
        DynamicImage::ImageRgb16(color().to_rgb16()),
        DynamicImage::ImageRgba16(color().to_rgba16()),
    ] {
        let picture = read(&deep, ImageFormat::Png);
        assert_eq!(picture.rgb.dim(), (8, 12, 3));
        assert!(
            picture.dropped.contains(&"16-bit depth"),
            "{:?}",
            picture.dropped
        );
    }
    let deep = read(
        &DynamicImage::ImageRgb16(color().to_rgb16()),
        ImageFormat::Png,
    );
    assert_eq!(deep.rgb.slice(s![3, 5, ..]).to_vec(), [100, 90, 90]);
}

#[test]
fn a_palette_is_looked_up() {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 3, 1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(vec![255, 0, 0, 0, 255, 0, 9, 8, 7]);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&[2, 0, 1])
        .unwrap();
    let picture = decode(&bytes, LIMIT).unwrap();
    assert_eq!(
        picture.rgb.as_slice().unwrap(),
        [9, 8, 7, 255, 0, 0, 0, 255, 0]
    );
}
