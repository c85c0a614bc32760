//! Files that are small and would take much.

use std::io::Write;

use diffbir::error::{Error, ErrorKind};
use diffbir::imageio::{self, DecodeOptions, Picture, decode};
use image::ImageFormat;

use crate::kinds::{LIMIT, file, golden, kinds, opaque};
use crate::memory::peak;

const MIB: usize = 1 << 20;

fn decoded(bytes: &[u8]) -> (Result<Picture, Error>, usize) {
    let done = peak(|| decode(bytes, LIMIT));
    println!("{} bytes: at most {} KiB", bytes.len(), done.1 >> 10);
    done
}

fn refused(bytes: &[u8], sign: &str) -> usize {
    let (done, most) = decoded(bytes);
    let error = done.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains(sign), "{error}");
    most
}

/// A zlib stream of `size` zeros.
fn zeros(size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 8191, (size / 8192) as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    for _ in 0..size / 8192 {
        stream.write_all(&[0; 8191]).unwrap();
    }
    stream.finish().unwrap();
    writer.finish().unwrap();
    let mut zeros = Vec::new();
    let mut at = 8;
    while at < bytes.len() {
        let length = u32::from_be_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
        if &bytes[at + 4..at + 8] == b"IDAT" {
            zeros.extend(&bytes[at + 8..at + 8 + length]);
        }
        at += 12 + length;
    }
    zeros
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

/// A PNG with `chunks` behind its header.
fn png_of(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let plain = file(&opaque(), ImageFormat::Png);
    let mut bytes = plain[..33].to_vec();
    for (kind, data) in chunks {
        let named = [&kind[..], data].concat();
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(&named);
        bytes.extend(crc(&named).to_be_bytes());
    }
    bytes.extend(&plain[33..]);
    bytes
}

#[test]
fn png_metadata_is_unpacked_within_its_bound() {
    let bomb = zeros(96 * MIB);
    let profile = png_of(&[(b"iCCP", [b"x\0\0", &bomb[..]].concat())]);
    let (picture, most) = decoded(&profile);
    assert_eq!(picture.unwrap().dropped, ["ICC profile"]);
    assert!(most < 64 * MIB, "{most}");
    let xmp = [b"XML:com.adobe.xmp\0\x01\0\0\0", &bomb[..]].concat();
    let (picture, most) = decoded(&png_of(&[(b"iTXt", xmp)]));
    assert_eq!(picture.unwrap().dropped, ["XMP"]);
    assert!(most < 8 * MIB, "{most}");
    let text = [b"Comment\0\0", &bomb[..]].concat();
    let (picture, most) = decoded(&png_of(&[(b"zTXt", text)]));
    assert!(picture.is_ok() && most < 8 * MIB, "{most}");
}

#[test]
fn chunks_are_counted_and_measured_before_they_are_read() {
    let chunks = vec![(b"tEXt", b"a\0".to_vec()); 10_001];
    let most = refused(&png_of(&chunks), "more than 10000 chunks");
    assert!(most < MIB, "{most}");
    let long = png_of(&[(b"eXIf", vec![0; 17 * MIB])]);
    let most = refused(&long, "more than 16 MiB");
    assert!(most < MIB, "{most}");
}

#[test]
fn a_webp_chunk_that_is_longer_than_its_file_allocates_nothing() {
    for (kind, length) in [(b"EXIF", 0xffff_fff0_u32), (b"ICCP", 0x8000_0000)] {
        let mut bytes = golden("pictures/metadata.webp");
        let at = bytes.windows(4).position(|found| found == kind).unwrap();
        bytes[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let most = refused(&bytes, "of which");
        assert!(most < MIB, "{most}");
    }
}

#[cfg(feature = "jxl")]
#[test]
fn jpeg_xl_metadata_is_unpacked_once_and_within_its_bound() {
    // 833 bytes of a gigabyte of zeros.
    let bomb = golden("pictures/brotli_exif.jxl");
    let most = refused(&bomb, "EXIF takes more than 16 MiB");
    assert!(most < 64 * MIB, "{most}");
    let mut few = golden("pictures/metadata.jxl");
    let boxes = [0, 0, 0, 8].into_iter().chain(*b"free");
    few.extend(boxes.cycle().take(8 * 10_001));
    refused(&few, "more than 10000 chunks");
}

/// A progressive JPEG of one block with `scans` scans.
fn scans(scans: usize) -> Vec<u8> {
    let segment = |marker: u8, data: &[u8]| {
        let length = (data.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker][..], &length, data].concat()
    };
    let ac = |high_low| [segment(0xda, &[1, 1, 0, 1, 63, high_low]), vec![0xbf]].concat();
    let mut code = vec![0x10, 1, 1];
    code.extend([0; 14]);
    code.extend([0xe0, 0]);
    let mut bytes = b"\xff\xd8".to_vec();
    bytes.extend(segment(0xdb, &[&[0][..], &[1; 64]].concat()));
    bytes.extend(segment(0xc2, &[8, 0, 8, 0, 8, 1, 1, 0x11, 0]));
    bytes.extend(segment(0xc4, &[&[0, 1][..], &[0; 15], &[0]].concat()));
    bytes.extend(segment(0xc4, &code));
    bytes.extend([segment(0xda, &[1, 1, 0, 0, 0, 0]), vec![0x7f]].concat());
    bytes.extend(ac(0x01));
    bytes.extend(ac(0x10).repeat(scans - 2));
    bytes.extend(b"\xff\xd9");
    bytes
}

#[test]
fn jpeg_scans_are_counted() {
    assert!(decode(&scans(20), LIMIT).is_ok());
    let (done, _) = decoded(&scans(501));
    let error = done.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("scan"), "{source}");
}

#[test]
fn decoding_takes_three_times_what_the_limit_allows_at_most() {
    for kind in kinds() {
        // Floats take more, so fewer pixels of them fit.
        let room = if kind.what.contains("floats") { 2 } else { 1 };
        let limit = DecodeOptions::up_to((room * kind.size.0 * kind.size.1) as u64);
        let (picture, most) = peak(|| decode(&kind.bytes, limit));
        assert!(picture.is_ok(), "{}", kind.what);
        assert!(most < 256 * MIB, "{}: {most}", kind.what);
    }
    let side = 2000;
    for color in [
        image::ColorType::Rgba8,
        image::ColorType::Rgba16,
        image::ColorType::La16,
    ] {
        for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::WebP] {
            let picture = image::DynamicImage::new(side, side, color);
            let mut bytes = std::io::Cursor::new(Vec::new());
            if picture.write_to(&mut bytes, format).is_err() {
                continue;
            }
            let bytes = bytes.into_inner();
            let (picture, most) = peak(|| decode(&bytes, DecodeOptions::up_to(1 << 22)));
            let pixel = most as f64 / f64::from(side * side);
            println!("{format:?} {color:?}: {pixel:.1} bytes a pixel");
            assert!(
                picture.is_ok() && pixel < 24.0,
                "{format:?} {color:?} {pixel}"
            );
        }
    }
}

#[test]
fn floats_count_by_their_bytes() {
    let floats = image::Rgba32FImage::from_pixel(64, 64, image::Rgba([0.5; 4]));
    let tiff = file(&floats.into(), ImageFormat::Tiff);
    assert!(decode(&tiff, DecodeOptions::up_to(64 * 128)).is_ok());
    let error = decode(&tiff, DecodeOptions::up_to(64 * 64)).unwrap_err();
    assert!(error.to_string().contains("its pixels take"), "{error}");
}

#[test]
fn files_of_any_length_are_read_up_to_their_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    // Takes no place on the disk.
    std::fs::File::create(&path)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let (done, most) = peak(|| imageio::read(&path, LIMIT));
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Input);
    assert!(most < MIB);
}

#[cfg(target_os = "linux")]
#[test]
fn pipes_and_devices_are_no_pictures_and_no_captions() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("a.txt");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for path in [pipe.as_path(), std::path::Path::new("/dev/zero")] {
        for error in [
            imageio::read(path, LIMIT).unwrap_err(),
            imageio::header(path, LIMIT).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Input);
        }
    }
    let mut prompt = String::new();
    let picture = dir.path().join("a.png");
    let error = diffbir::prompts::put_caption(&picture, &mut prompt).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
}
