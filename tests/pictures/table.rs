//! The table of what goes in and what comes out, which `docs/pictures.md` shows.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use diffbir::error::ErrorKind;
use diffbir::imageio::{
    Aspect, BitDepth, EncodeOptions, Format, Header, Picture, Pixels, decode, encode, header,
};
use ndarray::Array3;

use crate::colours::png_with_chunks;
use crate::kinds::{Kind, LIMIT, golden, kinds, read};
use crate::tiffs::{Tag, tags, tiff, with_tags};

/// Set to anything, the table is written instead of compared.
const WRITE: &str = "DIFFBIR_WRITE_TABLE";
const START: &str =
    "<!-- written by the test; DIFFBIR_WRITE_TABLE=1 cargo test --release --test pictures -->\n";
const END: &str = "<!-- end -->";

fn header_of(bytes: &[u8]) -> Header {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    header(file.path(), LIMIT).unwrap()
}

fn kept_of(picture: &Picture) -> Vec<&'static str> {
    // BMP carries nothing: what is lost in it is what is there.
    picture.kept.lost_in(Format::Bmp)
}

#[test]
fn what_goes_in_comes_out_again() {
    let mut lines = Vec::new();
    for kind in kinds() {
        let picture = read(&kind.bytes);
        let (height, width) = picture.pixels.size();
        assert_eq!((height, width), kind.size, "{}", kind.what);
        let header = header_of(&kind.bytes);
        assert_eq!((header.height, header.width), kind.size, "{}", kind.what);
        assert_eq!(header.format, picture.kept.format, "{}", kind.what);
        assert_eq!(picture.kept.grey, kind.grey, "{}", kind.what);
        assert_eq!(kept_of(&picture), kind.kept, "{}", kind.what);
        assert_eq!(picture.dropped, kind.dropped, "{}", kind.what);
        assert_eq!(picture.pixels.depth(), picture.kept.depth, "{}", kind.what);
        let results = Format::ALL.map(|format| result(&kind, &picture, format));
        let (what, dropped) = (kind.what, picture.dropped.join(", "));
        let line = format!("| {what} | {} | {dropped} |", results.join(" | "));
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    assert!(lines.len() >= 20);
    let names = Format::ALL.map(Format::name).join(" | ");
    let head =
        format!("| the input | {names} | never carried over |\n|---|---|---|---|---|---|---|");
    let table = format!("{head}\n{}\n\n{}", lines.join("\n"), refusals());
    println!("{table}");
    compare(&table);
}

/// What is refused, and with which words.
fn refusals() -> String {
    let refused = [
        ("animated PNG", apng()),
        ("animated WebP", golden("pictures/animated.webp")),
        ("animated GIF", golden("pictures/animated.gif")),
        ("GIF", golden("pictures/still.gif")),
        ("AVIF", golden("pictures/still.avif")),
        ("PNG in HDR (`cICP` PQ)", {
            png_with_chunks(
                &[1, 2, 3],
                png::BitDepth::Eight,
                &[(b"cICP", vec![9, 16, 0, 1])],
            )
        }),
        ("TIFF, Zstandard", odd_tiff((259, 3, vec![50000]))),
        ("TIFF, signed numbers", odd_tiff((339, 3, vec![2]))),
        (
            "a camera's raw file (DNG)",
            odd_tiff((50706, 1, vec![1, 4, 0, 0])),
        ),
        ("animated JPEG XL", golden("pictures/animated.jxl")),
        ("a text", b"no picture".to_vec()),
        ("a JPEG without its end", {
            let mut bytes = golden("jpeg/full_chroma.jpg");
            bytes.truncate(bytes.len() / 2);
            bytes
        }),
    ];
    let mut table = "| the input | refused with |\n|---|---|\n".to_owned();
    for (what, bytes) in refused {
        let error = decode(&bytes, LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{what}");
        table += &format!("| {what} | {error} |\n");
    }
    table
}

fn odd_tiff(tag: Tag) -> Vec<u8> {
    tiff(false, &[0; 3], &with_tags(tags((1, 1), 8, 3, 2), &[tag]))
}

fn apng() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0; 4]).unwrap();
    writer.write_image_data(&[9; 4]).unwrap();
    writer.finish().unwrap();
    bytes
}

fn compare(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(START).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, format!("{before}{START}{table}{END}{after}")).unwrap();
    } else {
        assert!(
            shown == table,
            "docs/pictures.md is out of date: run this test with {WRITE}=1"
        );
    }
}

/// `picture` twice as large, as the engine would give it.
fn twice(picture: &Picture) -> Pixels {
    let (height, width) = picture.pixels.size();
    let size = (2 * height, 2 * width, 3);
    match &picture.pixels {
        Pixels::U8(rgb) => Array3::from_shape_fn(size, |(y, x, c)| rgb[[y / 2, x / 2, c]]).into(),
        Pixels::U16(rgb) => Array3::from_shape_fn(size, |(y, x, c)| rgb[[y / 2, x / 2, c]]).into(),
    }
}

/// Writes a result twice as large, holds what it carries against what it should, and names what it has.
fn result(kind: &Kind, picture: &Picture, format: Format) -> String {
    let what = format!("{} to {format:?}", kind.what);
    let twice = twice(picture);
    let options = EncodeOptions {
        format,
        quality: 100,
        ..EncodeOptions::default()
    };
    let bytes = encode(&twice, &picture.kept, options, &BTreeMap::new()).unwrap();
    let result = read(&bytes);
    assert_eq!(result.kept.format, format, "{what}");
    assert_eq!(result.pixels.size(), twice.size(), "{what}");
    let lost = picture.kept.lost_in(format);
    // The profile is for RGB, so a grey result has none.
    let expected: Vec<&str> = kind
        .kept
        .iter()
        .copied()
        .filter(|kept| !lost.contains(kept))
        .collect();
    assert_eq!(kept_of(&result), expected, "{what}");
    // WebP knows no grey, and BMP is read as colour.
    if matches!(format, Format::Png | Format::Jpeg | Format::Tiff) {
        assert_eq!(result.kept.grey, kind.grey, "{what}");
    }
    check_exif(&result, &what);
    check_colors(&twice, picture, &result, &what);
    name_of(&result, expected)
}

fn name_of(result: &Picture, mut kept: Vec<&str>) -> String {
    kept.retain(|kept| *kept != "16-bit depth");
    let depth = if result.kept.depth == BitDepth::Sixteen {
        "16-bit "
    } else {
        ""
    };
    let color = if result.kept.grey { "grey" } else { "RGB" };
    let more = kept.iter().map(|kept| match *kept {
        "ICC profile" => "ICC",
        other => other,
    });
    [format!("{depth}{color}")]
        .into_iter()
        .chain(more.map(str::to_owned))
        .collect::<Vec<_>>()
        .join(", ")
}

fn check_exif(result: &Picture, what: &str) {
    if let Some(exif) = &result.kept.exif {
        let orientation = image::metadata::Orientation::from_exif_chunk(exif);
        let upright = image::metadata::Orientation::NoTransforms;
        assert_eq!(orientation, Some(upright), "{what}");
        assert!(exif.windows(3).any(|bytes| bytes == b"Cam"), "{what}");
    }
}

fn check_colors(twice: &Pixels, picture: &Picture, result: &Picture, what: &str) {
    let allowed = if result.kept.format == Format::Jpeg {
        24
    } else {
        3
    };
    let seen = picture.kept.alpha.as_ref();
    let found = result.pixels.to_u8();
    let carries = result.kept.format.carries(Aspect::Alpha);
    let alphas = picture.kept.alpha_in(twice.size().0, twice.size().1);
    for ((y, x, c), value) in twice.to_u8().indexed_iter() {
        let visible = seen.is_none_or(|alpha| alpha[[y / 2, x / 2]] > 0);
        let alpha = alphas.as_ref().filter(|_| !carries);
        let alpha = alpha.map_or(1.0, |alpha| f64::from(alpha[[y, x]]) / 255.0);
        let value = (f64::from(*value) * alpha + 255.0 * (1.0 - alpha)).round() as u8;
        let difference = value.abs_diff(found[[y, x, c]]);
        assert!(
            !visible || difference <= allowed,
            "{what} at {y} {x} {c}: {difference}"
        );
        if let (true, Pixels::U16(twice), Pixels::U16(found)) = (visible, twice, &result.pixels) {
            let difference = twice[[y, x, c]].abs_diff(found[[y, x, c]]);
            assert!(
                difference <= 64,
                "{what} at {y} {x} {c}: {difference} of 65535"
            );
        }
    }
}
