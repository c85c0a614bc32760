//! What goes in and what comes out: every kind of picture file is read, and its result has again what it had.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::collections::BTreeMap;
use std::io::Cursor;

use diffbir::imageio::{DecodeOptions, EncodeOptions, Format, Picture, Rgb, decode, encode};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat};
use ndarray::{Array2, s};

const LIMIT: DecodeOptions = DecodeOptions {
    max_pixels: 1 << 20,
    profiles: true,
};

fn read(bytes: &[u8]) -> Picture {
    decode(bytes, LIMIT).unwrap()
}

/// 12x8, of smooth colours and transparency.
fn color() -> DynamicImage {
    let pixel =
        |x: u32, y: u32| image::Rgba([(x * 20) as u8, (y * 30) as u8, 90, 255 - (x * 10) as u8]);
    DynamicImage::ImageRgba8(image::RgbaImage::from_fn(12, 8, pixel))
}

fn opaque() -> DynamicImage {
    DynamicImage::ImageRgb8(color().to_rgb8())
}

fn file(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// EXIF with an orientation and a camera's name.
fn exif(orientation: u16) -> Vec<u8> {
    let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
        let head = [tag.to_le_bytes(), kind.to_le_bytes()].concat();
        [&head[..], &count.to_le_bytes(), &value].concat()
    };
    let [low, high] = orientation.to_le_bytes();
    [
        b"II*\0\x08\0\0\0\x02\0".to_vec(),
        entry(0x010f, 2, 4, *b"Cam\0"),
        entry(0x0112, 3, 1, [low, high, 0, 0]),
        vec![0; 4],
    ]
    .concat()
}

fn display_p3() -> Vec<u8> {
    moxcms::ColorProfile::new_display_p3().encode().unwrap()
}

/// Encodes with metadata.
fn with(
    mut encoder: impl ImageEncoder,
    image: &DynamicImage,
    icc: Option<Vec<u8>>,
    exif: Option<Vec<u8>>,
) {
    if let Some(icc) = icc {
        encoder.set_icc_profile(icc).unwrap();
    }
    if let Some(exif) = exif {
        encoder.set_exif_metadata(exif).unwrap();
    }
    let color: ExtendedColorType = image.color().into();
    encoder
        .write_image(image.as_bytes(), image.width(), image.height(), color)
        .unwrap();
}

fn jpeg(image: &DynamicImage, icc: Option<Vec<u8>>, exif: Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    with(
        JpegEncoder::new_with_quality(&mut bytes, 100),
        image,
        icc,
        exif,
    );
    bytes
}

fn png_with(image: &DynamicImage, icc: Option<Vec<u8>>, exif: Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    with(PngEncoder::new(&mut bytes), image, icc, exif);
    bytes
}

fn palette(transparent: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 3, 1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(vec![255, 0, 0, 0, 255, 0, 9, 8, 7]);
    if transparent {
        encoder.set_trns(vec![255, 0, 128]);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[2, 0, 1]).unwrap();
    drop(writer);
    bytes
}

/// A 1x1 CMYK JPEG's headers are enough: four components in the frame.
fn cmyk() -> Vec<u8> {
    let grey = jpeg(&DynamicImage::ImageLuma8(color().to_luma8()), None, None);
    // An Adobe marker and a frame of four components that all use the grey one's tables.
    let frame = grey.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let scan = grey.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
    let mut bytes = grey[..frame].to_vec();
    bytes.extend([0xff, 0xc0, 0, 20, 8, 0, 8, 0, 8, 4]);
    bytes.extend((1..=4).flat_map(|id| [id, 0x11, 0]));
    bytes.extend(&grey[frame + 13..scan]);
    bytes.extend([0xff, 0xda, 0, 14, 4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]);
    // One block of each component: no difference, no other coefficient.
    bytes.extend([0x28, 0xa2, 0x8a, 0xff, 0xd9]);
    bytes
}

/// One row of the table: what goes in, and what is expected of it.
struct Row {
    what: &'static str,
    bytes: Vec<u8>,
    size: (usize, usize),
    grey: bool,
    kept: &'static [&'static str],
    dropped: &'static [&'static str],
}

fn row(what: &'static str, bytes: Vec<u8>) -> Row {
    Row {
        what,
        bytes,
        size: (8, 12),
        grey: false,
        kept: &[],
        dropped: &[],
    }
}

fn webp(icc: Option<Vec<u8>>, exif: Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    with(WebPEncoder::new_lossless(&mut bytes), &color(), icc, exif);
    bytes
}

fn rows() -> Vec<Row> {
    let grey = DynamicImage::ImageLuma8(color().to_luma8());
    let mut rows = vec![
        row("PNG", file(&opaque(), ImageFormat::Png)),
        row("BMP", file(&opaque(), ImageFormat::Bmp)),
        row("TIFF", file(&opaque(), ImageFormat::Tiff)),
        row("WebP", file(&opaque(), ImageFormat::WebP)),
        row("JPEG", jpeg(&opaque(), None, None)),
        Row {
            kept: &["alpha"],
            ..row("PNG with alpha", file(&color(), ImageFormat::Png))
        },
        Row {
            kept: &["alpha"],
            ..row("TIFF with alpha", file(&color(), ImageFormat::Tiff))
        },
        Row {
            kept: &["alpha"],
            ..row("WebP with alpha", webp(None, None))
        },
        Row {
            size: (1, 3),
            ..row("palette PNG", palette(false))
        },
        Row {
            size: (1, 3),
            kept: &["alpha"],
            ..row("palette PNG with alpha", palette(true))
        },
        Row {
            grey: true,
            ..row("grey PNG", file(&grey, ImageFormat::Png))
        },
        Row {
            grey: true,
            ..row("grey JPEG", jpeg(&grey, None, None))
        },
        Row {
            grey: true,
            kept: &["alpha"],
            ..row(
                "grey PNG with alpha",
                file(
                    &DynamicImage::ImageLumaA8(color().to_luma_alpha8()),
                    ImageFormat::Png,
                ),
            )
        },
        Row {
            grey: true,
            dropped: &["16-bit depth"],
            ..row(
                "16-bit grey TIFF",
                file(
                    &DynamicImage::ImageLuma16(color().to_luma16()),
                    ImageFormat::Tiff,
                ),
            )
        },
        Row {
            dropped: &["16-bit depth"],
            ..row(
                "16-bit PNG",
                file(
                    &DynamicImage::ImageRgb16(color().to_rgb16()),
                    ImageFormat::Png,
                ),
            )
        },
        Row {
            kept: &["alpha"],
            dropped: &["16-bit depth"],
            ..row(
                "16-bit PNG with alpha",
                file(
                    &DynamicImage::ImageRgba16(color().to_rgba16()),
                    ImageFormat::Png,
                ),
            )
        },
        Row {
            kept: &["ICC profile"],
            ..row("Display P3 JPEG", jpeg(&opaque(), Some(display_p3()), None))
        },
        Row {
            kept: &["alpha", "ICC profile", "EXIF"],
            ..row(
                "Display P3 WebP with EXIF",
                webp(Some(display_p3()), Some(exif(1))),
            )
        },
        Row {
            kept: &["EXIF"],
            ..row("PNG with EXIF", png_with(&opaque(), None, Some(exif(1))))
        },
        Row {
            dropped: &["CMYK colours"],
            size: (8, 8),
            ..row("CMYK JPEG", cmyk())
        },
    ];
    rows.extend((1..=8).map(|orientation| Row {
        size: if orientation < 5 { (8, 12) } else { (12, 8) },
        kept: &["EXIF"],
        ..row(
            "turned JPEG",
            jpeg(&opaque(), None, Some(exif(orientation))),
        )
    }));
    rows
}

fn kept_of(picture: &Picture) -> Vec<&'static str> {
    // BMP carries nothing: what is lost in it is what is there.
    picture.kept.lost_in(Format::Bmp)
}

#[test]
fn what_goes_in_comes_out_again() {
    assert!(rows().len() >= 20);
    for row in rows() {
        let picture = read(&row.bytes);
        let (height, width, _) = picture.rgb.dim();
        assert_eq!((height, width), row.size, "{}", row.what);
        assert_eq!(picture.kept.grey, row.grey, "{}", row.what);
        assert_eq!(kept_of(&picture), row.kept, "{}", row.what);
        assert_eq!(picture.dropped, row.dropped, "{}", row.what);
        for format in Format::ALL {
            check_result(&row, &picture, format);
        }
    }
}

/// A result twice as large holds what its format carries.
fn check_result(row: &Row, picture: &Picture, format: Format) {
    let what = format!("{} to {format:?}", row.what);
    let (height, width) = row.size;
    let twice = Rgb::from_shape_fn((2 * height, 2 * width, 3), |(y, x, c)| {
        picture.rgb[[y / 2, x / 2, c]]
    });
    let options = EncodeOptions {
        format,
        keep_grey: true,
        quality: 100,
    };
    let bytes = encode(&twice, &picture.kept, options, &BTreeMap::new()).unwrap();
    let result = read(&bytes);
    assert_eq!(result.kept.format, format, "{what}");
    assert_eq!(result.rgb.dim(), (2 * height, 2 * width, 3), "{what}");
    let lost = picture.kept.lost_in(format);
    let expected: Vec<&str> = row
        .kept
        .iter()
        .copied()
        .filter(|kept| !lost.contains(kept))
        .collect();
    assert_eq!(kept_of(&result), expected, "{what}");
    // WebP knows no grey, TIFF's encoder none with alpha, and BMP is read as colour.
    let grey = match format {
        Format::Png | Format::Jpeg => row.grey,
        Format::Tiff => row.grey && row.kept.is_empty(),
        _ => false,
    };
    if grey {
        assert!(result.kept.grey, "{what}");
    }
    if let Some(exif) = &result.kept.exif {
        let orientation = image::metadata::Orientation::from_exif_chunk(exif);
        assert_eq!(
            orientation,
            Some(image::metadata::Orientation::NoTransforms),
            "{what}"
        );
        assert!(exif.windows(3).any(|bytes| bytes == b"Cam"), "{what}");
    }
    let allowed = if format == Format::Jpeg { 24 } else { 3 };
    let seen = picture.kept.alpha.as_ref();
    for ((y, x, c), value) in twice.indexed_iter() {
        let visible = seen.is_none_or(|alpha| alpha[[y / 2, x / 2]] > 0);
        let difference = value.abs_diff(result.rgb[[y, x, c]]);
        assert!(
            !visible || row.grey || difference <= allowed,
            "{what} at {y} {x} {c}: {difference}"
        );
    }
}

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
        assert_eq!(picture.rgb.dim(), (8, 16, 3), "{orientation}");
        assert!(picture.rgb[[1, 1, 0]] > 200, "{orientation}");
        assert!(picture.rgb[[6, 14, 0]] < 50, "{orientation}");
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
    assert_eq!(ignored.rgb, plain.rgb);
    assert_ne!(converted.rgb, plain.rgb);
    assert!(ignored.kept.icc.is_none());
    assert_eq!(converted.kept.icc, Some(display_p3()));
}

#[test]
fn alpha_is_taken_off_and_not_blended() {
    let picture = read(&file(&color(), ImageFormat::Png));
    assert_eq!(picture.rgb.slice(s![3, 5, ..]).to_vec(), [100, 90, 90]);
    let expected = Array2::from_shape_fn((8, 12), |(_, x)| 255 - (x * 10) as u8);
    assert_eq!(picture.kept.alpha, Some(expected));
    // Opaque throughout is as good as none.
    let opaque = DynamicImage::ImageRgba8(opaque().to_rgba8());
    assert_eq!(read(&file(&opaque, ImageFormat::Png)).kept.alpha, None);
}

#[test]
fn sixteen_bits_keep_the_high_byte() {
    let deep = DynamicImage::ImageRgb16(color().to_rgb16());
    let picture = read(&file(&deep, ImageFormat::Png));
    assert_eq!(picture.rgb.slice(s![3, 5, ..]).to_vec(), [100, 90, 90]);
}

#[test]
fn xmp_goes_along() {
    let text = BTreeMap::from([("XML:com.adobe.xmp".to_owned(), "<x:xmpmeta/>".to_owned())]);
    let plain = read(&file(&opaque(), ImageFormat::Png));
    let png = encode(&plain.rgb, &plain.kept, EncodeOptions::default(), &text).unwrap();
    let picture = read(&png);
    assert_eq!(picture.kept.xmp.as_deref(), Some(&b"<x:xmpmeta/>"[..]));
    for format in [Format::Png, Format::Jpeg] {
        let options = EncodeOptions {
            format,
            ..EncodeOptions::default()
        };
        let bytes = encode(&picture.rgb, &picture.kept, options, &BTreeMap::new()).unwrap();
        assert_eq!(read(&bytes).kept.xmp, picture.kept.xmp, "{format:?}");
    }
}

#[test]
fn animated_pictures_are_refused() {
    let mut apng = Vec::new();
    let mut encoder = png::Encoder::new(&mut apng, 2, 2);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0; 4]).unwrap();
    writer.write_image_data(&[9; 4]).unwrap();
    writer.finish().unwrap();
    let error = decode(&apng, LIMIT).unwrap_err().to_string();
    assert!(error.contains("animated"), "{error}");
}

#[test]
fn quality_is_jpegs_alone() {
    let noise = Rgb::from_shape_fn((64, 64, 3), |(y, x, c)| (y * 37 + x * 101 + c * 59) as u8);
    let size = |format, quality| {
        let options = EncodeOptions {
            format,
            quality,
            keep_grey: false,
        };
        encode(&noise, &Default::default(), options, &BTreeMap::new())
            .unwrap()
            .len()
    };
    assert!(size(Format::Jpeg, 30) < size(Format::Jpeg, 95));
    assert_eq!(size(Format::Webp, 30), size(Format::Webp, 95));
}
