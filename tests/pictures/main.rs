//! What goes in and what comes out: every kind of picture file is read, and its result has again what it had.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod bounds;
mod colours;
#[path = "../common/mod.rs"]
mod common;
mod depth;
mod jpeg;
#[cfg(feature = "jxl")]
mod jxl;
mod kinds;
mod memory;
mod metadata;
mod robustness;
mod table;
mod tiffs;

use std::collections::BTreeMap;

use diffbir::imageio::{DecodeOptions, EncodeOptions, Format, Kept, Rgb, decode, encode};
use image::{DynamicImage, ImageFormat};
use ndarray::{Array2, s};

use kinds::{LIMIT, color, display_p3, exif, file, jpeg, opaque, png_with, read};

#[test]
fn every_orientation_is_turned_upright() {
    // A bright corner at the top left of the upright picture.
    let upright = image::RgbImage::from_fn(16, 8, |x, y| {
        image::Rgb([if x < 8 && y < 4 { 250 } else { 10 }; 3])
    });
    let upright = DynamicImage::ImageRgb8(upright);
    for orientation in 1..=8_u8 {
        let turn = image::metadata::Orientation::from_exif(orientation).unwrap();
        // How the camera held it: the turn undone.
        let undone = match turn {
            image::metadata::Orientation::Rotate90 => image::metadata::Orientation::Rotate270,
            image::metadata::Orientation::Rotate270 => image::metadata::Orientation::Rotate90,
            other => other,
        };
        let mut held = upright.clone();
        held.apply_orientation(undone);
        let picture = read(&jpeg(&held, None, Some(exif(orientation.into()))));
        assert_eq!(picture.pixels.to_u8().dim(), (8, 16, 3), "{orientation}");
        assert!(picture.pixels.to_u8()[[1, 1, 0]] > 200, "{orientation}");
        assert!(picture.pixels.to_u8()[[6, 14, 0]] < 50, "{orientation}");
    }
}

#[test]
fn colours_are_converted_to_srgb_unless_told_not_to() {
    let bytes = png_with(&opaque(), Some(display_p3()), None);
    let converted = read(&bytes);
    let ignored = decode(
        &bytes,
        DecodeOptions {
            profiles: false,
            ..LIMIT
        },
    )
    .unwrap();
    let plain = read(&file(&opaque(), ImageFormat::Png));
    assert_eq!(ignored.pixels, plain.pixels);
    assert_ne!(converted.pixels, plain.pixels);
    assert!(ignored.kept.icc.is_none());
    assert_eq!(converted.kept.icc, Some(display_p3()));
}

#[test]
fn alpha_is_taken_off_and_not_blended() {
    let picture = read(&file(&color(), ImageFormat::Png));
    assert_eq!(
        picture.pixels.to_u8().slice(s![3, 5, ..]).to_vec(),
        [100, 90, 90]
    );
    let expected = Array2::from_shape_fn((8, 12), |(_, x)| 255 - (x * 10) as u8);
    assert_eq!(picture.kept.alpha, Some(expected));
    // Opaque throughout is as good as none.
    let opaque = DynamicImage::ImageRgba8(opaque().to_rgba8());
    assert_eq!(read(&file(&opaque, ImageFormat::Png)).kept.alpha, None);
}

#[test]
fn what_is_too_long_for_a_jpeg_is_named() {
    let long = Kept {
        text: vec![("Comment".to_owned(), "x".repeat(70_000))],
        ..Kept::default()
    };
    let options = EncodeOptions {
        format: Format::Tiff,
        ..EncodeOptions::default()
    };
    let rgb = Rgb::zeros((4, 4, 3));
    let long = encode(&rgb.clone().into(), &long, options, &BTreeMap::new()).unwrap();
    let long = read(&long).kept.exif.unwrap();
    let kept = Kept {
        exif: Some(long),
        xmp: Some(vec![b' '; 70_000]),
        iptc: Some(vec![0; 70_000]),
        ..Kept::default()
    };
    assert_eq!(kept.lost_in(Format::Jpeg), ["EXIF", "XMP", "IPTC"]);
    let options = EncodeOptions {
        format: Format::Jpeg,
        ..EncodeOptions::default()
    };
    let result = read(&encode(&rgb.clone().into(), &kept, options, &BTreeMap::new()).unwrap());
    assert_eq!((result.kept.exif, result.kept.xmp), (None, None));
    assert!(kept.lost_in(Format::Tiff).is_empty());
}

#[test]
fn a_picture_too_long_for_its_kind_of_file_is_refused() {
    let rgb = Rgb::zeros((1, 65_536, 3));
    for (format, fits) in [
        (Format::Jpeg, false),
        (Format::Webp, false),
        (Format::Tiff, true),
    ] {
        let options = EncodeOptions {
            format,
            ..EncodeOptions::default()
        };
        let done = encode(
            &rgb.clone().into(),
            &Kept::default(),
            options,
            &BTreeMap::new(),
        );
        assert_eq!(done.is_ok(), fits, "{format:?}");
        if let Err(error) = done {
            assert_eq!(error.kind(), diffbir::error::ErrorKind::Option);
        }
    }
}

#[test]
fn colours_that_a_tiff_multiplied_with_alpha_are_divided_again() {
    let picture = read(&file(&color(), ImageFormat::Png));
    let alpha = picture.kept.alpha.clone().unwrap();
    let multiplied = Rgb::from_shape_fn(picture.pixels.to_u8().dim(), |(y, x, c)| {
        (u32::from(picture.pixels.to_u8()[[y, x, c]]) * u32::from(alpha[[y, x]]) / 255) as u8
    });
    let options = EncodeOptions {
        format: Format::Tiff,
        ..EncodeOptions::default()
    };
    let mut bytes = encode(
        &multiplied.clone().into(),
        &picture.kept,
        options,
        &BTreeMap::new(),
    )
    .unwrap();
    // The tag that says what the fourth channel is.
    let entry = [0x52, 1, 3, 0, 1, 0, 0, 0, 2];
    let at = bytes.windows(9).position(|bytes| bytes == entry).unwrap();
    bytes[at + 8] = 1;
    let found = read(&bytes).pixels.into_u8();
    let original = picture.pixels.to_u8();
    let pairs = found.iter().zip(&*original);
    assert!(pairs.map(|(a, b)| a.abs_diff(*b)).max() <= Some(2));
    assert_ne!(found, multiplied);
}

#[test]
fn xmp_goes_along() {
    let text = BTreeMap::from([("XML:com.adobe.xmp".to_owned(), "<x:xmpmeta/>".to_owned())]);
    let plain = read(&file(&opaque(), ImageFormat::Png));
    let png = encode(&plain.pixels, &plain.kept, EncodeOptions::default(), &text).unwrap();
    let picture = read(&png);
    assert_eq!(picture.kept.xmp.as_deref(), Some(&b"<x:xmpmeta/>"[..]));
    for format in [Format::Png, Format::Jpeg, Format::Webp, Format::Tiff] {
        let options = EncodeOptions {
            format,
            ..EncodeOptions::default()
        };
        let bytes = encode(&picture.pixels, &picture.kept, options, &BTreeMap::new()).unwrap();
        assert_eq!(read(&bytes).kept.xmp, picture.kept.xmp, "{format:?}");
    }
}

#[test]
fn quality_is_jpegs_alone() {
    let noise = Rgb::from_shape_fn((64, 64, 3), |(y, x, c)| (y * 37 + x * 101 + c * 59) as u8);
    let size = |format, quality| {
        let options = EncodeOptions {
            format,
            quality,
            ..EncodeOptions::default()
        };
        encode(
            &noise.clone().into(),
            &Default::default(),
            options,
            &BTreeMap::new(),
        )
        .unwrap()
        .len()
    };
    assert!(size(Format::Jpeg, 30) < size(Format::Jpeg, 95));
    assert_eq!(size(Format::Webp, 30), size(Format::Webp, 95));
}
