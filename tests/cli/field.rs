//! Cases that users of restorers reported, each as a small file made here; docs/field.md has the table.

use serde_json::Value;

use crate::program::{Program, picture};

/// A PNG of 45x45 pixels with a chunk before its pixels.
fn with_chunk(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 45, 45);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer
        .write_chunk(png::chunk::ChunkType(kind), data)
        .unwrap();
    let rgb: Vec<u8> = (0..45 * 45 * 3).map(|i| (i % 251) as u8).collect();
    writer.write_image_data(&rgb).unwrap();
    writer.finish().unwrap();
    bytes
}

fn jpeg(rgb: &image::RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    rgb.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// `data` as the first segment of a JPEG: APP1.
fn with_exif(jpeg: &[u8], data: &[u8]) -> Vec<u8> {
    let exif = [b"Exif\0\0", data].concat();
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], b"\xff\xe1", &length, &exif, &jpeg[2..]].concat()
}

type Case = (&'static str, Vec<u8>, Option<(u64, u64)>);

/// Each case: the file's name, its bytes, and the width and height of its result, if it has one.
fn cases() -> Vec<Case> {
    let photo = image::RgbImage::from_fn(40, 24, |x, y| image::Rgb([x as u8 * 6, y as u8 * 9, 80]));
    let grey = image::RgbImage::from_fn(40, 24, |x, y| image::Rgb([(x * 4 + y) as u8; 3]));
    let turned = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let dense = [0, 0, 0x2e, 0x23, 0, 0, 0x2e, 0x23, 1];
    let photo = jpeg(&photo);
    let cut = photo[..photo.len() * 8 / 10].to_vec();
    vec![
        ("F01-45x45.png", picture(45, 45), Some((90, 90))),
        (
            "F08-gama.png",
            with_chunk(*b"gAMA", &100_000_u32.to_be_bytes()),
            Some((90, 90)),
        ),
        (
            "F08-cicp.png",
            with_chunk(*b"cICP", &[12, 13, 0, 1]),
            Some((90, 90)),
        ),
        (
            "F10-dpi300.png",
            with_chunk(*b"pHYs", &dense),
            Some((90, 90)),
        ),
        ("F13-photo.jfif", photo.clone(), Some((80, 48))),
        ("F13-other.JPE", photo.clone(), Some((80, 48))),
        ("F16-turned.jpg", with_exif(&photo, turned), Some((48, 80))),
        ("F24-grey-as-rgb.jpg", jpeg(&grey), Some((80, 48))),
        ("F28-cut.jpg", cut, None),
        (
            "._F18.png",
            b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ".to_vec(),
            None,
        ),
        (".DS_Store", b"\0\0\0\x01Bud1".to_vec(), None),
    ]
}

#[test]
fn cases_from_the_field_end_as_they_should() {
    let program = Program::new();
    let folder = program.dir().join("in");
    std::fs::create_dir(&folder).unwrap();
    for (name, bytes, _) in cases() {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let run = program.tiny_bundle(&[
        "restore",
        "in",
        "-o",
        "out",
        "--steps",
        "2",
        "--upscale",
        "2",
        "--json",
    ]);
    run.code(1);
    let lines = run.stdout();
    let events: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| -> Vec<&Value> {
        let input = format!("in/{name}");
        let of_it =
            |event: &&Value| event["event"] == "picture" && event["input"] == input.as_str();
        events.iter().filter(of_it).collect()
    };
    for (name, _, size) in cases() {
        let ended = of(name);
        if name.starts_with('.') {
            assert!(ended.is_empty(), "{name}");
            continue;
        }
        assert_eq!(ended.len(), 1, "{name}");
        let made = ended[0]["width"].as_u64().zip(ended[0]["height"].as_u64());
        assert_eq!(made, size, "{name}: {}", ended[0]);
    }
    let cut = of("F28-cut.jpg")[0]["error"]["message"].as_str().unwrap();
    assert!(
        cut.contains("damaged") && cut.matches("end of data").count() < 3,
        "{cut}"
    );
    let end = events.last().unwrap();
    assert_eq!(
        (&end["left_out"]["hidden"], &end["failed"]),
        (&2.into(), &1.into())
    );
    run.does_not_say("panicked");
}

/// F22: a picture whose edges have no common factor, to any width and height.
#[test]
fn odd_pictures_reach_any_size() {
    let program = Program::new();
    std::fs::write(program.dir().join("odd.png"), picture(67, 101)).unwrap();
    for (flags, width, height) in [
        ("--width 160", 160, 106),
        ("--size 128x96 --size-mode fill", 128, 96),
    ] {
        let args = format!("restore odd.png -o r.png --overwrite --steps 2 --json {flags}");
        let run = program.tiny_bundle(&args.split(' ').collect::<Vec<_>>());
        run.code(0);
        run.prints(&[
            &format!("\"height\":{height}"),
            &format!("\"width\":{width}"),
        ]);
    }
}
