//! What a file says besides its pixels: kept, made true of the result, or taken away.

use std::collections::BTreeMap;

use diffbir::imageio::{EncodeOptions, Format, Kept, Picture, Resolution, Rgb, encode};

use crate::kinds::{jpeg, opaque, read};

fn written(kept: &Kept, format: Format, text: &BTreeMap<String, String>) -> Vec<u8> {
    let rgb = Rgb::from_shape_fn((24, 36, 3), |(y, x, c)| (y * 9 + x * 2 + c * 40) as u8);
    let options = EncodeOptions {
        format,
        ..EncodeOptions::default()
    };
    encode(&rgb.into(), kept, options, text).unwrap()
}

fn again(kept: &Kept, format: Format) -> Picture {
    read(&written(kept, format, &BTreeMap::new()))
}

/// EXIF of a camera: a thumbnail of its own, 4000x3000 pixels, 300 dots per inch, a place.
fn of_a_camera() -> Vec<u8> {
    let entry = |tag: u16, kind: u16, count: u32, value: u32| {
        let head = [tag.to_le_bytes(), kind.to_le_bytes()].concat();
        [&head[..], &count.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let mut bytes = b"II*\0\x08\0\0\0\x05\0".to_vec();
    bytes.extend(entry(282, 5, 1, 130));
    bytes.extend(entry(283, 5, 1, 130));
    bytes.extend(entry(296, 3, 1, 2));
    bytes.extend(entry(34665, 4, 1, 138));
    bytes.extend(entry(34853, 4, 1, 168));
    bytes.extend(186_u32.to_le_bytes());
    bytes.resize(130, 0);
    bytes.extend([300_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat());
    bytes.extend([2, 0]);
    bytes.extend(entry(40962, 3, 1, 4000));
    bytes.extend(entry(40963, 3, 1, 3000));
    bytes.extend([0; 4]);
    assert_eq!(bytes.len(), 168);
    bytes.extend([1, 0]);
    bytes.extend(entry(1, 2, 2, u32::from(b'N')));
    bytes.extend([0; 4]);
    assert_eq!(bytes.len(), 186);
    bytes.extend([2, 0]);
    bytes.extend(entry(513, 4, 1, 216));
    bytes.extend(entry(514, 4, 1, 9));
    bytes.extend([0; 4]);
    bytes.extend(b"thumbnail");
    bytes
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|bytes| bytes == part)
}

#[test]
fn the_resolution_goes_through_every_format() {
    for (x, y) in [(300.0, 300.0), (72.0, 150.0)] {
        let mut kept = Kept {
            resolution: Resolution::of(x, y),
            ..Kept::default()
        };
        for format in [
            Format::Png,
            Format::Jpeg,
            Format::Webp,
            Format::Tiff,
            Format::Bmp,
            Format::Png,
        ] {
            kept = again(&kept, format).kept;
            assert_eq!(kept.resolution, Resolution::of(x, y), "{format:?}");
        }
    }
}

#[test]
fn exif_is_made_true_of_the_result() {
    let picture = read(&jpeg(&opaque(), None, Some(of_a_camera())));
    assert_eq!(picture.kept.resolution, Resolution::of(300.0, 300.0));
    for format in [Format::Png, Format::Jpeg, Format::Webp, Format::Tiff] {
        let bytes = written(&picture.kept, format, &BTreeMap::new());
        assert!(!has(&bytes, b"thumbnail"), "{format:?}");
        let exif = read(&bytes).kept.exif.unwrap();
        let value = |tag: u16, value: u32| {
            let head = [tag.to_le_bytes(), 4_u16.to_le_bytes()].concat();
            has(
                &exif,
                &[&head[..], &1_u32.to_le_bytes(), &value.to_le_bytes()].concat(),
            )
        };
        assert!(value(40962, 36) && value(40963, 24), "{format:?}");
    }
}

#[test]
fn iptc_and_texts_are_kept_where_a_format_has_them() {
    let kept = Kept {
        iptc: Some(b"\x1c\x02\x78\0\x07caption".to_vec()),
        text: vec![
            ("Comment".to_owned(), "made by hand, für alle".to_owned()),
            ("Title".to_owned(), "A title".to_owned()),
        ],
        ..Kept::default()
    };
    for format in [Format::Png, Format::Jpeg, Format::Tiff] {
        assert_eq!(again(&kept, format).kept.iptc, kept.iptc, "{format:?}");
    }
    assert_eq!(again(&kept, Format::Png).kept.text, kept.text);
    let comments = again(&kept, Format::Jpeg).kept.text;
    assert_eq!(comments[0], kept.text[0]);
    assert_eq!(comments[1].1, "Title: A title");
    assert_eq!(kept.lost_in(Format::Webp), ["IPTC", "text"]);
    assert_eq!(kept.lost_in(Format::Tiff), ["text"]);
    assert!(kept.lost_in(Format::Png).is_empty() && kept.lost_in(Format::Jpeg).is_empty());
}

#[test]
fn texts_behind_the_pixels_of_a_png_are_read() {
    let plain = written(&Kept::default(), Format::Png, &BTreeMap::new());
    let mut chunk = b"tEXtAuthor\0Somebody".to_vec();
    let end = plain.len() - 12;
    let length = (chunk.len() as u32 - 4).to_be_bytes();
    let check = crc32(&chunk).to_be_bytes();
    chunk.extend(check);
    let bytes = [&plain[..end], &length, &chunk, &plain[end..]].concat();
    assert_eq!(
        read(&bytes).kept.text,
        [("Author".to_owned(), "Somebody".to_owned())]
    );
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            sum >> 1 ^ (0xedb8_8320 * (sum & 1))
        })
    })
}

#[test]
fn how_it_was_made_is_in_xmp_where_there_are_no_texts() {
    let text = BTreeMap::from([("diffbir".to_owned(), "{\"seed\":1}".to_owned())]);
    let kept = Kept {
        xmp: Some(
            b"<x:xmpmeta><rdf:RDF><rdf:Description dc:x='1'/></rdf:RDF></x:xmpmeta>".to_vec(),
        ),
        ..Kept::default()
    };
    for format in [Format::Jpeg, Format::Webp, Format::Tiff] {
        let bytes = written(&kept, format, &text);
        assert!(
            has(&bytes, b"<diffbir:diffbir>{\"seed\":1}</diffbir:diffbir>"),
            "{format:?}"
        );
        assert!(has(&bytes, b"dc:x='1'"), "{format:?}");
        // A result of the result says how that was made.
        assert_eq!(read(&bytes).kept.xmp, kept.xmp, "{format:?}");
    }
    let png = written(&kept, Format::Png, &text);
    assert!(has(&png, b"{\"seed\":1}") && read(&png).kept.text.is_empty());
}

#[test]
fn metadata_and_places_are_taken_away_on_request() {
    let xmp = b"<rdf:RDF><rdf:Description exif:GPSLatitude='1' dc:x='1'/></rdf:RDF>";
    let mut kept = Kept {
        xmp: Some(xmp.to_vec()),
        ..read(&jpeg(&opaque(), None, Some(of_a_camera()))).kept
    };
    let place = |kept: &Kept| {
        has(
            kept.exif.as_deref().unwrap_or_default(),
            &34853_u16.to_le_bytes(),
        )
    };
    assert!(place(&kept));
    kept.strip_place();
    assert!(!place(&kept) && kept.exif.is_some());
    assert_eq!(
        kept.xmp.as_deref(),
        Some(&b"<rdf:RDF><rdf:Description  dc:x='1'/></rdf:RDF>"[..])
    );
    kept.strip();
    assert_eq!((kept.exif, kept.xmp, kept.resolution), (None, None, None));
}
