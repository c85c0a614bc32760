//! Colour correction and picture operations.

use diffbir::color::{
    adaptive_instance_normalization, wavelet_blur, wavelet_decomposition, wavelet_reconstruction,
};
use diffbir::resize::{
    pillow_bicubic, quantise, resize_short_edge_to, short_edge_size, torch_bicubic, upscaled_size,
};
use diffbir::tensor::{Image, Padding, pad_to, round_up, size};
use ndarray::{Array3, Array4, Ix3, Ix4};
use serde_json::Value;

use crate::common::{Goldens, abs, assert_close, with_reference};

#[test]
fn color() {
    with_reference("color", |folder| {
        let goldens = Goldens::open(folder.join("color.safetensors"));
        let check = |name: String, found: &Image| {
            let max = assert_close(&name, found, &goldens.array::<Ix4>(&name), abs(1e-5));
            eprintln!("{name}: max difference {max:e}");
        };
        for p in ["p0", "p1", "p2", "p3"] {
            let content: Image = goldens.array(&format!("{p}.content"));
            let style: Image = goldens.array(&format!("{p}.style"));
            let wavelet = wavelet_reconstruction(content.clone(), &style).unwrap();
            check(format!("{p}.wavelet_reconstruction"), &wavelet);
            let adain = adaptive_instance_normalization(content.clone(), &style).unwrap();
            check(format!("{p}.adain"), &adain);
            if p != "p2" {
                let (high, low) = wavelet_decomposition(&content);
                check(format!("{p}.content_high"), &high);
                check(format!("{p}.content_low"), &low);
            }
            if p == "p0" || p == "p3" {
                for radius in [1, 2, 4, 8, 16] {
                    let name = format!("{p}.wavelet_blur.r{radius}");
                    check(name, &wavelet_blur(content.clone(), radius));
                }
            }
        }
    });
}

fn index(folder: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("image_ops.json")).unwrap()).unwrap()
}

fn pair(value: &Value) -> (usize, usize) {
    let at = |i: usize| value[i].as_u64().unwrap() as usize;
    (at(0), at(1))
}

#[test]
fn pillow_resize() {
    with_reference("pillow_resize", |folder| {
        let goldens = Goldens::open(folder.join("image_ops.safetensors"));
        let index = index(folder);
        let cases = index["pil"].as_array().unwrap();
        assert_eq!(cases.len(), 8);
        let (mut values, mut unequal) = (0, 0);
        for case in cases {
            let (name, scale) = (case["image"].as_str().unwrap(), &case["scale"]);
            let input = goldens.u8(&format!("pil.{name}.in"));
            let input: Array3<u8> = input.into_dimensionality::<Ix3>().unwrap();
            let (width, height) = pair(&case["in_size_wh"]);
            let (oh, ow) = upscaled_size(height, width, scale.as_f64().unwrap());
            assert_eq!((ow, oh), pair(&case["out_size_wh"]), "{name} x{scale}");
            let file = folder.join(format!("image_ops/{name}_x{scale}.png"));
            let expected = image::open(file).unwrap().into_rgb8().into_raw();
            let found = pillow_bicubic(input.view(), oh, ow);
            for (&f, &e) in found.iter().zip(&expected) {
                assert!(
                    f.abs_diff(e) <= 1,
                    "{name} x{scale}: expected {e}, found {f}"
                );
                unequal += usize::from(f != e);
            }
            assert_eq!(found.len(), expected.len());
            values += found.len();
        }
        eprintln!("pillow: {unequal} of {values} values differ");
        assert_eq!(unequal, 0);
    });
}

#[test]
fn torch_interpolate() {
    with_reference("torch_interpolate", |folder| {
        let goldens = Goldens::open(folder.join("image_ops.safetensors"));
        let index = index(folder);
        let cases = index["interpolate"].as_array().unwrap();
        assert_eq!(cases.len(), 10);
        for case in cases {
            let prefix = format!("interp.{}", case["in"].as_str().unwrap());
            let input: Image = goldens.array(&format!("{prefix}.in"));
            let (h, w) = pair(&case["out_hw"]);
            let name = format!("{prefix}.{h}x{w}");
            let expected = goldens.array::<Ix4>(&name);
            let max = assert_close(&name, &torch_bicubic(&input, h, w), &expected, abs(1e-5));
            eprintln!("{name}: max difference {max:e}");
        }
    });
}

#[test]
fn short_edge() {
    with_reference("short_edge", |folder| {
        let goldens = Goldens::open(folder.join("image_ops.safetensors"));
        let index = index(folder);
        for case in index["resize_short_edge_to"].as_array().unwrap() {
            let size = case["size"].as_u64().unwrap() as usize;
            let name = format!("short_edge.{}.{size}", case["in"].as_str().unwrap());
            let input: Image = goldens.array(&format!("{name}.in"));
            let found = resize_short_edge_to(&input, size);
            let max = assert_close(&name, &found, &goldens.array::<Ix4>(&name), abs(1e-5));
            eprintln!("{name}: max difference {max:e}");
        }
        let sizes = index["short_edge_sizes_512"].as_array().unwrap();
        assert!(!sizes.is_empty());
        for case in sizes {
            let (h, w) = pair(&case["in_hw"]);
            assert_eq!(short_edge_size(h, w, 512), pair(&case["out_hw"]), "{h}x{w}");
        }
    });
}

#[test]
fn pad_and_quantise() {
    with_reference("pad_and_quantise", |folder| {
        let goldens = Goldens::open(folder.join("image_ops.safetensors"));
        let input: Image = goldens.array("interp.bears.in");
        for multiple in [8, 64] {
            let expected = goldens.array::<Ix4>(&format!("pad.bears.{multiple}"));
            let (h, w) = size(&input);
            let padded = (round_up(h, multiple), round_up(w, multiple));
            assert_eq!(pad_to(&input, padded, Padding::Zeros), expected);
        }
        let input = goldens.f32("quantise.in");
        let shape = (1, 1, 1, input.len());
        let input = Array4::from_shape_vec(shape, input.into_raw_vec_and_offset().0).unwrap();
        let expected = goldens.u8("quantise.out").into_raw_vec_and_offset().0;
        assert_eq!(quantise(&input).into_raw_vec_and_offset().0, expected);
    });
}
