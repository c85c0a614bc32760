//! What results keep of their inputs, and what they leave out on request.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbaImage};

use crate::program::{Program, Run};

fn put(program: &Program, name: &str, image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    let bytes = bytes.into_inner();
    std::fs::write(program.dir().join(name), &bytes).unwrap();
    bytes
}

fn restore(program: &Program, args: &str) -> Run {
    let fixed = "restore --steps 2 --upscale 1 --offline --overwrite";
    let args: Vec<&str> = fixed.split(' ').chain(args.split(' ')).collect();
    program.tiny_bundle(&args)
}

fn result(program: &Program, name: &str) -> DynamicImage {
    image::load_from_memory(&program.read(name)).unwrap()
}

fn colours() -> DynamicImage {
    let pixel = |x: u32, y: u32| image::Rgba([(x * 9) as u8, (y * 11) as u8, 90, 255]);
    DynamicImage::ImageRgba8(RgbaImage::from_fn(16, 16, pixel))
}

#[test]
fn a_picture_without_colour_comes_out_without() {
    let program = Program::new();
    let grey = DynamicImage::ImageRgb8(DynamicImage::ImageLuma8(colours().to_luma8()).to_rgb8());
    put(&program, "a.png", &grey, ImageFormat::Png);
    for (more, is_grey) in [
        ("", true),
        (" --keep-grey", true),
        (" --grey colour", false),
        (" --set output.keep_grey=false", false),
        (" --fidelity reference", false),
    ] {
        restore(&program, &format!("a.png -o r.png{more}")).code(0);
        let has_colour = result(&program, "r.png").color().has_color();
        assert_eq!(has_colour, !is_grey, "{more}");
    }
}

#[test]
fn transparent_pixels_show_the_background() {
    let program = Program::new();
    let mut image = colours().to_rgba8();
    image.pixels_mut().for_each(|pixel| pixel.0[3] = 0);
    image.get_pixel_mut(0, 0).0[3] = 255;
    put(&program, "a.png", &image.into(), ImageFormat::Png);
    for (more, expected) in [
        ("", 255),
        (" --background black", 0),
        (" --background #808080", 128),
    ] {
        restore(&program, &format!("a.png -o r.jpg{more}")).code(0);
        let result = result(&program, "r.jpg").to_rgb8();
        let pixel = result.get_pixel(12, 12).0;
        assert!(
            pixel.iter().all(|x| x.abs_diff(expected) < 4),
            "{more}: {pixel:?}"
        );
    }
    let run = restore(&program, "a.png -o r.jpg --background nowhere");
    run.code(2);
    run.says(&["#rrggbb"]);
}

#[test]
fn a_damaged_jpeg_is_restored_on_request_and_named_at_the_end() {
    let program = Program::new();
    let noise =
        |x: u32, y: u32| image::Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, (y * 53) as u8]);
    let image = DynamicImage::ImageRgb8(image::RgbImage::from_fn(32, 32, noise));
    let bytes = put(&program, "a.jpg", &image, ImageFormat::Jpeg);
    std::fs::write(program.dir().join("a.jpg"), &bytes[..bytes.len() * 9 / 10]).unwrap();
    put(&program, "b.png", &colours(), ImageFormat::Png);
    restore(&program, "a.jpg b.png -o out").code(1);
    let run = restore(&program, "a.jpg b.png -o out --allow-damaged");
    run.code(0);
    run.says(&["damaged, restored as far as they go: a.jpg"]);
    run.does_not_say("go: b.png");
    restore(&program, "b.png -o out --allow-damaged").does_not_say("damaged");
}

#[test]
fn how_it_was_made_is_in_every_format_that_can_say_it() {
    let program = Program::new();
    put(&program, "a.png", &colours(), ImageFormat::Png);
    let has = |name: &str, part: &str| {
        let bytes = program.read(name);
        bytes
            .windows(part.len())
            .any(|bytes| bytes == part.as_bytes())
    };
    for name in ["r.png", "r.jpg", "r.webp", "r.tif"] {
        restore(&program, &format!("a.png -o {name} --seed 77")).code(0);
        assert!(has(name, "\"seed\":77"), "{name}");
        restore(&program, &format!("a.png -o {name} --no-metadata")).code(0);
        assert!(!has(name, "diffbir"), "{name}");
    }
}

#[test]
fn the_inputs_metadata_is_left_out_on_request() {
    let program = Program::new();
    let bytes = put(
        &program,
        "a.jpg",
        &colours().to_rgb8().into(),
        ImageFormat::Jpeg,
    );
    let xmp = b"http://ns.adobe.com/xap/1.0/\0<rdf:RDF><rdf:Description exif:GPSLatitude='9N' dc:me='I'/></rdf:RDF>";
    let length = (xmp.len() as u16 + 2).to_be_bytes();
    let bytes = [&bytes[..2], &[0xff, 0xe1], &length, xmp, &bytes[2..]].concat();
    std::fs::write(program.dir().join("a.jpg"), bytes).unwrap();
    for (more, place, author) in [
        ("", true, true),
        (" --strip-gps", false, true),
        (" --strip-metadata", false, false),
    ] {
        restore(&program, &format!("a.jpg -o r.jpg{more}")).code(0);
        let bytes = program.read("r.jpg");
        let has = |part: &[u8]| bytes.windows(part.len()).any(|bytes| bytes == part);
        assert_eq!(
            (has(b"GPSLatitude"), has(b"dc:me")),
            (place, author),
            "{more}"
        );
        assert!(has(b"diffbir"), "{more}");
    }
}
