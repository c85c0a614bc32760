//! The result's size: exact to the pixel, from one option at a time.

use serde_json::Value;

use crate::program::{Program, Run, picture};

/// A program with `a.png` of 30x20 pixels (width times height).
fn program() -> Program {
    let program = Program::new();
    std::fs::write(program.dir().join("a.png"), picture(20, 30)).unwrap();
    program
}

fn restore(program: &Program, flags: &str) -> Run {
    let fixed = "restore a.png -o r.png --overwrite --steps 2 --offline --no-metadata";
    let args: Vec<&str> = fixed.split(' ').chain(flags.split_whitespace()).collect();
    program.tiny_bundle(&args)
}

fn size(png: &[u8]) -> (u32, u32) {
    let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info();
    reader.unwrap().info().size()
}

#[test]
fn results_have_the_size_that_is_asked_for() {
    let program = program();
    for (flags, expected) in [
        ("--width 47", (47, 31)),
        ("--long-edge 31", (31, 21)),
        ("--size 40x40", (40, 27)),
        ("--size 40x40 --size-mode fill", (40, 40)),
        ("--size 41x39 --size-mode exact", (41, 39)),
    ] {
        restore(&program, flags).code(0);
        assert_eq!(size(&program.read("r.png")), expected, "{flags}");
    }
}

#[test]
fn a_size_gives_what_the_factor_of_that_size_gives() {
    let program = program();
    restore(&program, "--upscale 2").code(0);
    let by_factor = program.read("r.png");
    for flags in [
        "--width 60",
        "--size 60x40 --size-mode exact",
        "--size 60x40 --size-mode fill",
    ] {
        restore(&program, flags).code(0);
        assert!(program.read("r.png") == by_factor, "{flags}");
    }
    restore(&program, "--width 61").code(0);
    assert!(program.read("r.png") != by_factor);
}

/// Turned by EXIF, so that 20x30 pixels are seen as 30x20.
#[test]
fn sizes_count_upright_pixels() {
    let program = program();
    let rgb = image::RgbImage::from_fn(20, 30, |x, y| image::Rgb([x as u8 * 9, y as u8 * 7, 90]));
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::set_exif_metadata(&mut encoder, exif).unwrap();
    rgb.write_with_encoder(encoder).unwrap();
    std::fs::write(program.dir().join("a.png"), bytes).unwrap();
    restore(&program, "--width 60").code(0);
    assert_eq!(size(&program.read("r.png")), (60, 40));
}

/// What is transparent stays where it is: the middle of the picture is cropped with it.
#[test]
fn transparency_is_cropped_with_the_picture() {
    let program = program();
    let rgba = image::RgbaImage::from_fn(30, 20, |x, _| {
        image::Rgba([90, 120, 60, if x < 15 { 0 } else { 255 }])
    });
    rgba.save(program.dir().join("a.png")).unwrap();
    restore(&program, "--size 40x40 --size-mode fill").code(0);
    let made = image::load_from_memory(&program.read("r.png"))
        .unwrap()
        .to_rgba8();
    for x in 0..40 {
        let alpha = made.get_pixel(x, 20).0[3];
        assert!(
            if x < 18 {
                alpha < 30
            } else {
                x < 22 || alpha > 225
            },
            "{x}: {alpha}"
        );
    }
}

#[test]
fn of_two_sizes_the_higher_place_counts_and_one_place_gives_one() {
    let program = program();
    let write = |text: &str| std::fs::write(program.dir().join("c.yaml"), text).unwrap();
    let config = |flags: &str| -> Value {
        let args: Vec<&str> = "config"
            .split(' ')
            .chain(flags.split_whitespace())
            .collect();
        let run = program.run(&args);
        run.code(0);
        serde_yaml::from_str(&run.stdout()).unwrap()
    };
    write("restore: { upscale: 2 }");
    let by_flag = config("--config c.yaml --size 40x30");
    assert_eq!(by_flag["size"]["pixels"], "40x30");
    assert!(by_flag["restore"]["upscale"].is_null());
    write("size: { pixels: 40x30, mode: exact }");
    let by_flag = config("--config c.yaml --upscale 3");
    assert_eq!(by_flag["restore"]["upscale"], 3.0);
    assert!(by_flag["size"]["pixels"].is_null() && by_flag["size"]["mode"].is_null());
    assert_eq!(
        config("--config c.yaml --size 50x20")["size"]["mode"],
        "exact"
    );
    assert_eq!(config("--set size.width=5 --height 6")["size"]["height"], 6);
    // What is printed can be read again.
    let printed = serde_yaml::to_string(&config("--size 40x30")).unwrap();
    write(&printed);
    assert_eq!(config("--config c.yaml")["size"]["pixels"], "40x30");

    for (flags, code, said) in [
        ("--width 5 --upscale 2", 2, "give one of restore.upscale"),
        ("--width 5 --height 5", 2, "--size WIDTHxHEIGHT"),
        (
            "--set size.width=5 --set restore.upscale=2",
            2,
            "a setting: give one of",
        ),
        ("--size-mode fill", 2, "size.mode (--size-mode) acts with"),
        (
            "--width 5 --size-mode fill",
            2,
            "size.mode (--size-mode) acts with",
        ),
        ("--size 0x5", 2, "expected WIDTHxHEIGHT"),
        (
            "--set size.pixels=0x600",
            2,
            "size.pixels: `1536`, expected text",
        ),
        ("--width 0", 2, "size.width is 0, expected 1 to"),
        ("--set restore.upscale=null", 2, "the result has no size"),
        ("--width 1048576", 5, "choose a smaller"),
    ] {
        let run = restore(&program, flags);
        run.code(code);
        run.says(&[said]);
    }
    write("restore: { upscale: 2 }\nsize: { width: 5 }");
    let run = restore(&program, "--config c.yaml");
    run.code(3);
    run.says(&["c.yaml: give one of"]);
}
