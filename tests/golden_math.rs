//! The mathematics against torch, Pillow, diffusers and high-precision arithmetic. Each golden file lies beside the
//! script that made it, in `tests/goldens/<module>/`.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Goldens, Tolerance, abs, assert_close};
use diffbir::color::{
    adaptive_instance_normalization, wavelet_blur, wavelet_decomposition, wavelet_reconstruction,
};
use diffbir::denoise::{Branch, Cfg, NoiseModel, Parameterization};
use diffbir::error::Result;
use diffbir::resize::{pillow_bicubic, torch_bicubic};
use diffbir::rng::Replay;
use diffbir::samplers::{Run, Sampling, spaced};
use diffbir::schedule::{Diffusion, DiffusionConfig, SpacedSchedule};
use diffbir::tensor::{Image, Latent};
use ndarray::{Array1, Axis, Ix3, Ix4, Ix5};

fn diffusion(zero_snr: bool, parameterization: Parameterization) -> Diffusion {
    Diffusion::new(&DiffusionConfig {
        zero_snr,
        parameterization,
        ..DiffusionConfig::default()
    })
    .unwrap()
}

#[test]
fn schedules_are_the_papers() {
    let goldens = Goldens::of_module("schedule");
    // At zero SNR alpha_bar comes from differences, which loses digits in any f64 program.
    let tolerance = |zero_snr| Tolerance {
        abs: 1e-18,
        rel: if zero_snr { 1e-9 } else { 1e-12 },
    };
    for (name, zero_snr) in [("linear", false), ("zsnr", true)] {
        let d = diffusion(zero_snr, Parameterization::V);
        let check = |key: String, found: &[f64]| {
            let found = Array1::from(found.to_vec()).into_dyn();
            assert_close(&key, &found, &goldens.f64(&key), tolerance(zero_snr));
        };
        check(format!("{name}.betas"), d.betas());
        check(format!("{name}.alphas_cumprod"), d.alphas_cumprod());
        for steps in [2, 3, 4, 7, 10, 27, 50, 250, 1000] {
            let s = SpacedSchedule::new(&d, steps).unwrap();
            let timesteps = goldens.i64(&format!("timesteps.{steps}"));
            assert!(s.timesteps.iter().map(|&t| t as i64).eq(timesteps));
            check(
                format!("{name}.{steps}.posterior_variance"),
                &s.posterior_variance,
            );
            check(
                format!("{name}.{steps}.posterior_mean_coef1"),
                &s.posterior_mean_coef1,
            );
            check(
                format!("{name}.{steps}.posterior_mean_coef2"),
                &s.posterior_mean_coef2,
            );
        }
    }
}

/// `0.35 * x - 0.2 * c + 0.1`, and half of that without condition.
struct LinearModel {
    c: Latent,
}

impl NoiseModel for LinearModel {
    fn predict(&mut self, x: &Latent, _: f32, branches: &[Branch]) -> Result<Vec<Latent>> {
        let cond = 0.35 * x - 0.2 * &self.c + 0.1;
        let answer = |branch: &Branch| match branch {
            Branch::Cond => cond.clone(),
            Branch::Uncond => 0.5 * &cond,
        };
        Ok(branches.iter().map(answer).collect())
    }
}

#[test]
fn spaced_trajectories_are_those_of_diffusers() {
    let goldens = Goldens::of_module("samplers");
    for case in 0..5 {
        let name = |key: &str| format!("{case}.{key}");
        let v = goldens.u8(&name("v"))[[0]] == 1;
        let parameterization = if v {
            Parameterization::V
        } else {
            Parameterization::Eps
        };
        let noise = goldens.array::<Ix5>(&name("noise"));
        let trajectory = goldens.array::<Ix5>(&name("trajectory"));
        let diffusion = diffusion(v, parameterization);
        let sampling = Sampling {
            cfg: Cfg {
                scale: goldens.f64(&name("scale"))[[0]],
                ..Cfg::default()
            },
            ..Sampling::new(&diffusion, noise.len_of(Axis(0)))
        };
        let mut model = LinearModel {
            c: goldens.array(&name("c")),
        };
        let mut noise = Replay::new(noise.outer_iter().map(|draw| draw.to_owned()).collect());
        let mut observe = |info: &diffbir::samplers::StepInfo<'_>| {
            let expected = trajectory.index_axis(Axis(0), info.index);
            let largest = expected.iter().fold(1.0_f32, |max, x| max.max(x.abs()));
            let tolerance = abs(1e-6 * f64::from(largest));
            assert_close(&name("trajectory"), info.x, &expected, tolerance);
            Ok(())
        };
        let x_t = goldens.array::<Ix4>(&name("x_T"));
        let mut run = Run {
            model: &mut model,
            noise: &mut noise,
            guide: None,
            observe: &mut observe,
        };
        spaced::sample(&sampling, &mut run, x_t).unwrap();
    }
}

#[test]
fn colour_correction_follows_its_definition() {
    let goldens = Goldens::of_module("color");
    for case in 0..5 {
        let array = |key: &str| goldens.array::<Ix4>(&format!("{case}.{key}"));
        let (content, style) = (array("content"), array("style"));
        let check = |key: &str, found: &Image| {
            assert_close(&format!("{case}.{key}"), found, &array(key), abs(1e-6));
        };
        check("blur4", &wavelet_blur(content.clone(), 4));
        check("low", &wavelet_decomposition(&content).1);
        check(
            "wavelet",
            &wavelet_reconstruction(content.clone(), &style).unwrap(),
        );
        check(
            "adain",
            &adaptive_instance_normalization(content, &style).unwrap(),
        );
    }
}

/// The size at the end of a name, `….HxW`.
fn size_in(name: &str) -> Option<(usize, usize)> {
    let (h, w) = name.rsplit('.').next()?.split_once('x')?;
    Some((h.parse().ok()?, w.parse().ok()?))
}

#[test]
fn resizing_is_pillows_and_torchs() {
    let goldens = Goldens::of_module("resize");
    let mut checked = 0;
    for name in goldens.names() {
        let Some((h, w)) = size_in(&name) else {
            continue;
        };
        let input = format!("{}.in", name.rsplit_once('.').unwrap().0);
        if name.starts_with("pillow") {
            let input = goldens.u8(&input).into_dimensionality::<Ix3>().unwrap();
            let found = pillow_bicubic(input.view(), h, w).into_dyn();
            assert_eq!(found, goldens.u8(&name), "{name}");
        } else {
            let found = torch_bicubic(&goldens.array(&input), h, w);
            assert_close(&name, &found, &goldens.array::<Ix4>(&name), abs(2e-6));
        }
        checked += 1;
    }
    assert_eq!(checked, 19);
}
