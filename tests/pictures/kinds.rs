//! Files of every kind, and what is expected of each.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use diffbir::imageio::{DecodeOptions, EncodeOptions, Kept, Picture, decode, encode};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat};

use crate::colours::png_with_chunks;
use crate::tiffs::{tags, tiff, with_tags};

pub const LIMIT: DecodeOptions = DecodeOptions {
    max_pixels: 1 << 20,
    profiles: true,
    damaged: false,
};

pub fn read(bytes: &[u8]) -> Picture {
    decode(bytes, LIMIT).unwrap()
}

/// 12x8, of smooth colours and transparency.
pub fn color() -> DynamicImage {
    let pixel =
        |x: u32, y: u32| image::Rgba([(x * 20) as u8, (y * 30) as u8, 90, 255 - (x * 10) as u8]);
    DynamicImage::ImageRgba8(image::RgbaImage::from_fn(12, 8, pixel))
}

pub fn opaque() -> DynamicImage {
    DynamicImage::ImageRgb8(color().to_rgb8())
}

pub fn file(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// EXIF with an orientation and a camera's name.
pub fn exif(orientation: u16) -> Vec<u8> {
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

pub fn display_p3() -> Vec<u8> {
    moxcms::ColorProfile::new_display_p3().encode().unwrap()
}

/// Encodes with metadata.
pub fn with(
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

pub fn jpeg(image: &DynamicImage, icc: Option<Vec<u8>>, exif: Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    with(
        JpegEncoder::new_with_quality(&mut bytes, 100),
        image,
        icc,
        exif,
    );
    bytes
}

pub fn png_with(image: &DynamicImage, icc: Option<Vec<u8>>, exif: Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    with(PngEncoder::new(&mut bytes), image, icc, exif);
    bytes
}

pub fn palette(transparent: bool) -> Vec<u8> {
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

/// A file of `tests/goldens/pictures` or `tests/goldens/jpeg`, each beside the script that made it.
pub fn golden(path: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    std::fs::read(folder.join(path)).unwrap()
}

pub fn webp(icc: Option<Vec<u8>>, exif: Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    with(WebPEncoder::new_lossless(&mut bytes), &color(), icc, exif);
    bytes
}

/// A PNG with everything that goes along.
fn whole_png() -> Vec<u8> {
    let kept = Kept {
        icc: Some(display_p3()),
        exif: Some(exif(1)),
        xmp: Some(b"<x:xmpmeta/>".to_vec()),
        ..read(&file(&color(), ImageFormat::Png)).kept
    };
    let rgb = read(&file(&color(), ImageFormat::Png)).pixels.into_u8();
    encode(
        &rgb.clone().into(),
        &kept,
        EncodeOptions::default(),
        &BTreeMap::new(),
    )
    .unwrap()
}

/// What goes in, and what is expected of it.
pub struct Kind {
    pub what: &'static str,
    pub bytes: Vec<u8>,
    /// Height and width.
    pub size: (usize, usize),
    pub grey: bool,
    pub kept: &'static [&'static str],
    pub dropped: &'static [&'static str],
}

fn kind(what: &'static str, bytes: Vec<u8>) -> Kind {
    Kind {
        what,
        bytes,
        size: (8, 12),
        grey: false,
        kept: &[],
        dropped: &[],
    }
}

fn keeping(what: &'static str, bytes: Vec<u8>, kept: &'static [&'static str]) -> Kind {
    Kind {
        kept,
        ..kind(what, bytes)
    }
}

fn grey(what: &'static str, bytes: Vec<u8>, kept: &'static [&'static str]) -> Kind {
    Kind {
        grey: true,
        ..keeping(what, bytes, kept)
    }
}

const NO_PROFILE: &[&str] = &["CMYK colours (converted without a profile)"];
const BY_PROFILE: &[&str] = &["CMYK colours (converted by their profile)"];
const EVERYTHING: &[&str] = &["ICC profile", "EXIF", "XMP"];

/// Every kind of input, for the table in `docs/pictures.md`.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = pngs();
    kinds.extend(jpegs());
    kinds.extend(webps());
    kinds.extend(tiffs());
    kinds.extend(said_otherwise());
    kinds.push(kind("BMP", file(&opaque(), ImageFormat::Bmp)));
    kinds.push(kind("BMP, palette", golden("pictures/palette.bmp")));
    kinds
}

fn pngs() -> Vec<Kind> {
    let png = |image: DynamicImage| file(&image, ImageFormat::Png);
    let (luma, luma16) = (color().to_luma8(), color().to_luma16());
    let faded16 = DynamicImage::ImageRgba16(color().to_rgba16());
    vec![
        kind("PNG", png(opaque())),
        keeping("PNG with alpha", png(color()), &["alpha"]),
        Kind {
            size: (1, 3),
            ..kind("PNG, palette", palette(false))
        },
        Kind {
            size: (1, 3),
            ..keeping("PNG, palette with alpha", palette(true), &["alpha"])
        },
        grey("PNG, grey", png(DynamicImage::ImageLuma8(luma)), &[]),
        grey(
            "PNG, grey with alpha",
            png(DynamicImage::ImageLumaA8(color().to_luma_alpha8())),
            &["alpha"],
        ),
        grey("PNG, 1 bit", golden("pictures/bilevel.png"), &[]),
        keeping(
            "PNG, 16 bits",
            png(DynamicImage::ImageRgb16(color().to_rgb16())),
            &["16-bit depth"],
        ),
        keeping(
            "PNG, 16 bits with alpha",
            png(faded16),
            &["alpha", "16-bit depth"],
        ),
        grey(
            "PNG, 16 bits, grey",
            png(DynamicImage::ImageLuma16(luma16)),
            &["16-bit depth"],
        ),
        keeping(
            "PNG, 16 bits, Display P3",
            png_with(
                &DynamicImage::ImageRgb16(color().to_rgb16()),
                Some(display_p3()),
                None,
            ),
            &["16-bit depth", "ICC profile"],
        ),
        keeping(
            "PNG with EXIF",
            png_with(&opaque(), None, Some(exif(1))),
            &["EXIF"],
        ),
        keeping(
            "PNG with ICC, EXIF and XMP",
            golden("pictures/metadata.png"),
            EVERYTHING,
        ),
        keeping(
            "PNG with alpha, Display P3, EXIF and XMP",
            whole_png(),
            &["alpha", "ICC profile", "EXIF", "XMP"],
        ),
    ]
}

fn jpegs() -> Vec<Kind> {
    let luma = DynamicImage::ImageLuma8(color().to_luma8());
    let mut kinds = vec![
        kind("JPEG", jpeg(&opaque(), None, None)),
        grey("JPEG, grey", jpeg(&luma, None, None), &[]),
        keeping(
            "JPEG, Display P3",
            jpeg(&opaque(), Some(display_p3()), None),
            &["ICC profile"],
        ),
        Kind {
            size: (12, 8),
            ..keeping(
                "JPEG with ICC, EXIF and XMP",
                golden("pictures/metadata.jpg"),
                EVERYTHING,
            )
        },
        Kind {
            size: (55, 70),
            dropped: NO_PROFILE,
            ..kind("JPEG, CMYK", golden("jpeg/cmyk.jpg"))
        },
        Kind {
            size: (61, 64),
            dropped: BY_PROFILE,
            ..kind(
                "JPEG, CMYK with its profile",
                golden("jpeg/cmyk_profile.jpg"),
            )
        },
    ];
    kinds.extend((1..=8).map(|orientation| Kind {
        size: if orientation < 5 { (8, 12) } else { (12, 8) },
        ..keeping(
            "JPEG, turned by EXIF (1 to 8)",
            jpeg(&opaque(), None, Some(exif(orientation))),
            &["EXIF"],
        )
    }));
    kinds
}

fn webps() -> Vec<Kind> {
    vec![
        kind("WebP, lossless", file(&opaque(), ImageFormat::WebP)),
        kind("WebP, lossy", golden("pictures/lossy.webp")),
        keeping("WebP, lossless with alpha", webp(None, None), &["alpha"]),
        keeping(
            "WebP, lossy with alpha",
            golden("pictures/lossy_alpha.webp"),
            &["alpha"],
        ),
        keeping(
            "WebP with ICC, EXIF and XMP",
            golden("pictures/metadata.webp"),
            EVERYTHING,
        ),
        keeping(
            "WebP with alpha, Display P3 and EXIF",
            webp(Some(display_p3()), Some(exif(1))),
            &["alpha", "ICC profile", "EXIF"],
        ),
    ]
}

/// Colours that are said in other ways, of one or two pixels.
fn said_otherwise() -> Vec<Kind> {
    let of = |what, bytes| Kind {
        size: (1, 2),
        ..kind(what, bytes)
    };
    let plain = |bits, samples, photometric, pixels: &[u8], more: &[_]| {
        let tags = tags((2, 1), bits, samples, photometric);
        tiff(false, pixels, &with_tags(tags, more))
    };
    let mut map = vec![0; 768];
    (map[2], map[258]) = (65535, 32896);
    let floats: Vec<u8> = [0.5_f32, 4.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let deep = [0, 0, 0, 0, 255, 255, 255, 255];
    let png = |chunk| png_with_chunks(&[200, 90, 60, 9, 99, 190], png::BitDepth::Eight, &[chunk]);
    let greys = image::GrayImage::from_raw(2, 1, vec![60, 200]).unwrap();
    let linear = moxcms::ColorProfile::new_gray_with_gamma(1.0).encode();
    vec![
        of("TIFF, palette", plain(8, 1, 3, &[2, 0], &[(320, 3, map)])),
        of(
            "TIFF, YCbCr",
            plain(
                8,
                3,
                6,
                &[76, 85, 255, 99, 128, 128],
                &[(530, 3, vec![1, 1])],
            ),
        ),
        of(
            "TIFF, L\\*a\\*b\\*",
            plain(8, 3, 8, &[138, 81, 70, 200, 0, 0], &[]),
        ),
        Kind {
            size: (1, 2),
            dropped: &["bits beyond 16"],
            ..grey(
                "TIFF, 32 bits, grey",
                plain(32, 1, 1, &deep, &[]),
                &["16-bit depth"],
            )
        },
        Kind {
            size: (1, 2),
            dropped: &["values beyond black and white (clipped)"],
            ..grey(
                "TIFF, floats above 1, grey",
                plain(32, 1, 1, &floats, &[(339, 3, vec![3])]),
                &["16-bit depth"],
            )
        },
        of(
            "BigTIFF",
            tiff(true, &[9, 99, 190, 200, 90, 60], &tags((2, 1), 8, 3, 2)),
        ),
        of(
            "PNG, `gAMA` 1.0",
            png((b"gAMA", 100_000_u32.to_be_bytes().to_vec())),
        ),
        Kind {
            size: (1, 2),
            ..keeping(
                "PNG, `cICP` Display P3",
                png((b"cICP", vec![12, 13, 0, 1])),
                &["ICC profile"],
            )
        },
        Kind {
            size: (1, 2),
            dropped: &["grey ICC profile (converted to sRGB)"],
            ..grey(
                "PNG, grey with a profile",
                png_with(&greys.into(), linear.ok(), None),
                &[],
            )
        },
        grey(
            "PNG, RGB without colour",
            file(
                &DynamicImage::ImageRgb8(DynamicImage::from(color().to_luma8()).to_rgb8()),
                ImageFormat::Png,
            ),
            &[],
        ),
    ]
}

fn tiffs() -> Vec<Kind> {
    let tiff = |image: DynamicImage| file(&image, ImageFormat::Tiff);
    let faded16 = DynamicImage::ImageRgba16(color().to_rgba16());
    vec![
        kind("TIFF", tiff(opaque())),
        kind("TIFF, LZW", golden("pictures/lzw.tif")),
        kind("TIFF, deflate", golden("pictures/deflate.tif")),
        kind("TIFF, PackBits", golden("pictures/packbits.tif")),
        kind("TIFF, JPEG", golden("pictures/jpeg.tif")),
        keeping("TIFF with alpha", tiff(color()), &["alpha"]),
        grey(
            "TIFF, grey with alpha",
            golden("pictures/grey_alpha.tif"),
            &["alpha"],
        ),
        grey("TIFF, 1 bit", golden("pictures/bilevel.tif"), &[]),
        keeping(
            "TIFF, 16 bits",
            tiff(DynamicImage::ImageRgb16(color().to_rgb16())),
            &["16-bit depth"],
        ),
        keeping(
            "TIFF, 16 bits with alpha",
            tiff(faded16),
            &["alpha", "16-bit depth"],
        ),
        grey(
            "TIFF, 16 bits, grey",
            tiff(DynamicImage::ImageLuma16(color().to_luma16())),
            &["16-bit depth"],
        ),
        Kind {
            dropped: NO_PROFILE,
            ..kind("TIFF, CMYK", golden("pictures/cmyk.tif"))
        },
        Kind {
            dropped: &["pages behind the first one"],
            ..kind("TIFF of two pages", golden("pictures/pages.tif"))
        },
        keeping(
            "TIFF with ICC, EXIF and XMP",
            golden("pictures/metadata.tif"),
            EVERYTHING,
        ),
    ]
}
