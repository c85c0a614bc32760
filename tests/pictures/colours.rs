//! Colours that a file says in other ways than by a profile for RGB; transparency where it cannot be kept; greys.

use std::collections::BTreeMap;

use diffbir::imageio::{
    DAMAGED, DecodeOptions, EncodeOptions, Format, Kept, Pixels, Resolution, Rgb, decode, encode,
};
use image::{DynamicImage, GrayImage};
use ndarray::{Array2, Array3, s};

use crate::kinds::{LIMIT, display_p3, file, golden, jpeg, opaque, png_with, read};

/// A PNG with chunks before its pixels.
pub fn png_with_chunks(
    pixels: &[u8],
    bits: png::BitDepth,
    chunks: &[(&[u8; 4], Vec<u8>)],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let width = pixels.len() / if bits == png::BitDepth::Sixteen { 6 } else { 3 };
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, 1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(bits);
    let mut writer = encoder.write_header().unwrap();
    for (kind, data) in chunks {
        writer
            .write_chunk(png::chunk::ChunkType(**kind), data)
            .unwrap();
    }
    writer.write_image_data(pixels).unwrap();
    writer.finish().unwrap();
    bytes
}

fn gamma(value: u32) -> (&'static [u8; 4], Vec<u8>) {
    (b"gAMA", value.to_be_bytes().to_vec())
}

fn primaries(points: [u32; 8]) -> (&'static [u8; 4], Vec<u8>) {
    (
        b"cHRM",
        points.iter().flat_map(|x| x.to_be_bytes()).collect(),
    )
}

const SRGB: [u32; 8] = [31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000];

#[test]
fn a_png_is_converted_by_its_gamma() {
    let half: Vec<u8> = [32768_u16; 3]
        .iter()
        .flat_map(|x| x.to_be_bytes())
        .collect();
    let picture = read(&png_with_chunks(
        &half,
        png::BitDepth::Sixteen,
        &[gamma(100_000)],
    ));
    let Pixels::U16(found) = &picture.pixels else {
        panic!()
    };
    // Linear half is 188 of 255 in sRGB.
    assert!(found[[0, 0, 1]].abs_diff(48_200) < 150, "{found}");
    // A result is in sRGB: 8 bits of linear light would have few dark tones.
    assert_eq!(picture.kept.icc, None);
    // What libpng takes for sRGB is left alone.
    let bytes = png_with_chunks(
        &[9, 99, 200],
        png::BitDepth::Eight,
        &[gamma(45_455), primaries(SRGB)],
    );
    let picture = read(&bytes);
    assert_eq!(
        picture.pixels.to_u8().iter().copied().collect::<Vec<_>>(),
        [9, 99, 200]
    );
    assert_eq!(picture.kept.icc, None);
}

#[test]
fn a_png_is_converted_by_its_primaries_or_code_points() {
    let pixels = [200, 100, 90, 20, 180, 40];
    let image = image::RgbImage::from_raw(2, 1, pixels.to_vec()).unwrap();
    let by_profile = read(&png_with(&image.into(), Some(display_p3()), None));
    let p3 = [31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000];
    for chunk in [primaries(p3), (b"cICP", vec![12, 13, 0, 1])] {
        let picture = read(&png_with_chunks(&pixels, png::BitDepth::Eight, &[chunk]));
        let (found, expected) = (picture.pixels.to_u8(), by_profile.pixels.to_u8());
        let pairs = found.iter().zip(expected.iter());
        assert!(
            pairs.map(|(a, b)| a.abs_diff(*b)).max() <= Some(2),
            "{found}"
        );
        // A result is in these colours again, by a profile.
        assert!(picture.kept.icc.is_some());
        let result = encode(
            &picture.pixels,
            &picture.kept,
            EncodeOptions::default(),
            &BTreeMap::new(),
        );
        let again = read(&result.unwrap());
        let again = again.pixels.to_u8();
        let pairs = found.iter().zip(again.iter());
        assert!(
            pairs.map(|(a, b)| a.abs_diff(*b)).max() <= Some(2),
            "{again}"
        );
    }
}

#[test]
fn hdr_is_refused_unless_profiles_are_ignored() {
    for transfer in [16, 18] {
        let points = [(b"cICP", vec![9, transfer, 0, 1])];
        let bytes = png_with_chunks(&[1, 2, 3], png::BitDepth::Eight, &points);
        let error = decode(&bytes, LIMIT).unwrap_err().to_string();
        assert!(error.contains("HDR"), "{error}");
        let ignored = DecodeOptions {
            profiles: false,
            ..LIMIT
        };
        assert!(decode(&bytes, ignored).is_ok());
    }
}

#[test]
fn greys_are_converted_by_their_profile() {
    let profile = moxcms::ColorProfile::new_gray_with_gamma(1.0)
        .encode()
        .unwrap();
    let greys = DynamicImage::ImageLuma8(GrayImage::from_raw(2, 1, vec![128, 255]).unwrap());
    for bytes in [
        png_with(&greys, Some(profile.clone()), None),
        jpeg(&greys, Some(profile), None),
    ] {
        let picture = read(&bytes);
        assert_eq!(picture.dropped, ["grey ICC profile (converted to sRGB)"]);
        let found = picture.pixels.to_u8();
        assert!(
            found[[0, 0, 0]].abs_diff(188) <= 2 && found[[0, 1, 0]] > 252,
            "{found}"
        );
        assert!(picture.kept.grey);
    }
}

#[test]
fn cameras_say_adobe_rgb_in_exif_alone() {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0".to_vec();
    exif.extend(b"\x01\0\x01\xa0\x03\0\x01\0\0\0\x02\0\0\0\0\0\0\0");
    let picture = read(&jpeg(&opaque(), None, Some(exif)));
    let plain = read(&jpeg(&opaque(), None, None));
    assert!(picture.kept.icc.is_some());
    assert_ne!(picture.pixels, plain.pixels);
}

#[test]
fn transparency_is_laid_over_the_background() {
    let pixels = Rgb::from_shape_fn((16, 16, 3), |(_, _, c)| [100, 0, 200][c]);
    let kept = Kept {
        alpha: Some(Array2::from_elem((16, 16), 128)),
        ..Kept::default()
    };
    for format in [Format::Jpeg, Format::Bmp] {
        for (background, expected) in [([255; 3], [177, 127, 227]), ([0; 3], [50, 0, 100])] {
            let options = EncodeOptions {
                format,
                background,
                ..EncodeOptions::default()
            };
            let result = encode(&pixels.clone().into(), &kept, options, &BTreeMap::new());
            let found = read(&result.unwrap()).pixels.into_u8();
            let found = found.slice(s![8, 8, ..]);
            let pairs = found.iter().zip(expected);
            assert!(
                pairs.map(|(a, b)| a.abs_diff(b)).max() <= Some(2),
                "{format:?}: {found}"
            );
        }
    }
}

#[test]
fn what_is_there_of_a_damaged_jpeg_is_decoded_on_request() {
    let whole = golden("jpeg/full_chroma.jpg");
    let cut = &whole[..whole.len() * 4 / 5];
    assert!(decode(cut, LIMIT).is_err());
    let allowed = DecodeOptions {
        damaged: true,
        ..LIMIT
    };
    let (picture, expected) = (decode(cut, allowed).unwrap(), read(&whole));
    assert_eq!(picture.dropped, [DAMAGED]);
    let (found, expected) = (picture.pixels.to_u8(), expected.pixels.to_u8());
    let rows = s![..found.dim().0 / 2, .., ..];
    assert_eq!(found.slice(rows), expected.slice(rows));
    // A whole one is as it was.
    assert!(decode(&whole, allowed).unwrap().dropped.is_empty());
}

#[test]
fn further_pictures_and_gain_maps_are_said() {
    let with_segment = |marker: u8, data: &[u8]| {
        let bytes = jpeg(&opaque(), None, None);
        let length = (data.len() as u16 + 2).to_be_bytes();
        [&bytes[..2], &[0xff, marker], &length, data, &bytes[2..]].concat()
    };
    let index = |kind: u8| {
        let mut data =
            b"MPF\0II*\0\x08\0\0\0\x01\0\x02\xb0\x07\0\x20\0\0\0\x1a\0\0\0\0\0\0\0".to_vec();
        data.extend([0; 16]);
        data.extend([2, 0, kind, 0]);
        data.extend([0; 12]);
        data
    };
    // A stereo picture, and a preview of 1920x1080.
    let picture = read(&with_segment(0xe2, &index(2)));
    assert_eq!(picture.dropped, ["further pictures of the file"]);
    assert!(read(&with_segment(0xe2, &index(1))).dropped.is_empty());
    let xmp =
        b"http://ns.adobe.com/xap/1.0/\0<x xmlns:hdrgm=\"http://ns.adobe.com/hdr-gain-map/1.0/\"/>";
    let picture = read(&with_segment(0xe1, xmp));
    assert_eq!(picture.dropped, ["gain map", "XMP"]);
    assert_eq!(picture.kept.xmp, None);
}

#[test]
fn a_picture_without_colour_is_grey_however_it_is_stored() {
    let greys = |tint: i32| {
        Pixels::from(
            Array3::from_shape_fn((8, 8, 3), |(y, x, c)| {
                (20 + y * 20 + x * 3) as i32 + if c == 2 { tint } else { 0 }
            })
            .mapv(|x| x as u8),
        )
    };
    // Blue less 4 is Cb less 2; sepia is far from that.
    for (tint, is_grey) in [(0, true), (-4, true), (4, true), (-8, false), (-30, false)] {
        assert_eq!(greys(tint).is_grey(), is_grey, "{tint}");
    }
    let stored = DynamicImage::ImageRgb8(DynamicImage::ImageLuma8(opaque().to_luma8()).to_rgb8());
    let picture = read(&file(&stored, image::ImageFormat::Png));
    assert!(picture.kept.grey);
    let result = encode(
        &picture.pixels,
        &picture.kept,
        EncodeOptions::default(),
        &BTreeMap::new(),
    );
    let result = image::load_from_memory(&result.unwrap()).unwrap();
    assert_eq!(result.color(), image::ColorType::L8);
    let mut tinted = greys(-4);
    tinted.remove_colour();
    let tinted = tinted.into_u8();
    assert!(tinted.rows().into_iter().count() > 0 && Pixels::from(tinted.clone()).is_grey());
    assert_eq!(tinted[[0, 0, 0]], tinted[[0, 0, 2]]);
    assert!(Resolution::of(0.0, 1.0).is_none());
}
