//! JPEG files against Pillow, which reads them with libjpeg-turbo.

use std::path::Path;

use diffbir::imageio::{DecodeOptions, decode, read};
use ndarray::{Array3, Ix3, s};

use crate::common::Goldens;
use crate::kinds::{LIMIT, golden};

/// The largest and the mean difference.
fn difference(found: &Array3<u8>, expected: &Array3<u8>) -> (u8, f64) {
    assert_eq!(found.dim(), expected.dim());
    let differences = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = differences.clone().map(f64::from).sum();
    (differences.max().unwrap(), sum / found.len() as f64)
}

#[test]
fn files_decode_as_in_pillow() {
    let goldens = Goldens::of_module("jpeg");
    let names = goldens.names();
    assert!(names.len() > 10);
    for name in names {
        let expected = goldens.u8(&name).into_dimensionality::<Ix3>().unwrap();
        let found = if name == "demo" {
            let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/demo.jpg");
            let picture = read(&demo, DecodeOptions::up_to(1 << 24)).unwrap();
            picture.pixels.to_u8().slice(s![..;97, ..;3, ..]).to_owned()
        } else {
            decode(&golden(&format!("jpeg/{name}.jpg")), LIMIT)
                .unwrap()
                .pixels
                .into_u8()
        };
        let (largest, mean) = difference(&found, &expected);
        println!("{name}: at most {largest}, mean {mean:.4}");
        // Of inks by their profile, moxcms is held against lcms: tables are interpolated in 15 bits here, in 16 there.
        let (most, most_in_mean) = if name == "cmyk_profile" {
            (2, 0.5)
        } else {
            (0, 0.0)
        };
        assert!(
            largest <= most && mean <= most_in_mean,
            "{name}: {largest}, {mean}"
        );
    }
}

#[test]
fn damaged_files_are_refused_or_read_and_never_end_the_program() {
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    for name in [
        "quarter_chroma",
        "progressive_half",
        "grey",
        "cmyk",
        "restarts",
    ] {
        let bytes = golden(&format!("jpeg/{name}.jpg"));
        for end in (0..bytes.len() - 2).step_by(bytes.len() / 40) {
            assert!(decode(&bytes[..end], LIMIT).is_err(), "{name} cut at {end}");
        }
        for _ in 0..400 {
            let mut bytes = bytes.clone();
            for _ in 0..=random() % 4 {
                let at = random() % bytes.len().min(700);
                bytes[at] = random() as u8;
            }
            let _ = decode(&bytes, LIMIT);
        }
    }
}

#[test]
fn too_many_pixels_are_refused_from_the_headers() {
    let mut bytes = golden("jpeg/full_chroma.jpg");
    let frame = bytes
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .unwrap();
    bytes[frame + 5..frame + 9].fill(0xf0);
    bytes.truncate(bytes.len() / 2);
    let error = decode(&bytes, LIMIT).unwrap_err().to_string();
    assert!(error.contains("more than the limit"), "{error}");
}

#[test]
fn components_of_unusual_resolutions_are_refused() {
    let mut bytes = golden("jpeg/cmyk.jpg");
    let frame = bytes
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .unwrap();
    // Black in a quarter of the cyan's resolution.
    bytes[frame + 11] = 0x22;
    let error = decode(&bytes, LIMIT).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("unusual resolutions"), "{source}");
}
