//! Schedules: f64 ones to 1e-12 relative, f32 ones to 2 ulp.

use diffbir::denoise::{Cfg, Parameterization};
use diffbir::schedule::{Diffusion, DiffusionConfig, SpacedSchedule, space_timesteps};
use ndarray::Array1;

use crate::common::{Goldens, assert_close, rel, ulps, with_reference};

const SCHEDULES: [(&str, bool); 2] = [("linear", false), ("zsnr", true)];

pub fn diffusion(zero_snr: bool, parameterization: Parameterization) -> Diffusion {
    Diffusion::new(&DiffusionConfig {
        zero_snr,
        parameterization,
        ..DiffusionConfig::default()
    })
    .unwrap()
}

/// Returns the largest number of ulps between `found`, rounded to f32, and the golden array.
fn check_ulps(goldens: &Goldens, name: &str, found: &[f64]) -> u32 {
    let expected = goldens.f32(name);
    assert_eq!(found.len(), expected.len(), "{name}");
    let differences = found.iter().zip(&expected).enumerate();
    let max = differences
        .map(|(i, (&f, &e))| {
            let ulps = ulps(f as f32, e);
            assert!(ulps <= 2, "{name}[{i}]: expected {e:e}, found {f:e}");
            ulps
        })
        .max();
    max.unwrap_or(0)
}

#[test]
fn schedule_diffusion() {
    with_reference("schedule_diffusion", |folder| {
        let goldens = Goldens::open(folder.join("schedule.safetensors"));
        for (name, zero_snr) in SCHEDULES {
            let d = diffusion(zero_snr, Parameterization::V);
            for (key, found) in [("betas", d.betas()), ("alphas_cumprod", d.alphas_cumprod())] {
                let key = format!("{name}.{key}");
                let found = Array1::from(found.to_vec()).into_dyn();
                let max = assert_close(&key, &found, &goldens.f64(&key), rel(1e-12));
                eprintln!("{key}: max difference {max:e}");
            }
            let (signal, sigma): (Vec<f64>, Vec<f64>) = (0..1000)
                .map(|t| d.q_coefficients(t).unwrap())
                .map(|(a, b)| (f64::from(a), f64::from(b)))
                .unzip();
            let prefix = format!("{name}.diffusion.sqrt");
            let a = check_ulps(&goldens, &format!("{prefix}_alphas_cumprod"), &signal);
            let b = check_ulps(
                &goldens,
                &format!("{prefix}_one_minus_alphas_cumprod"),
                &sigma,
            );
            eprintln!("{prefix}*: max {} ulp", a.max(b));
        }
    });
}

#[test]
fn schedule_spaced() {
    with_reference("schedule_spaced", |folder| {
        let goldens = Goldens::open(folder.join("schedule.safetensors"));
        let mut max = 0;
        for (name, zero_snr) in SCHEDULES {
            let d = diffusion(zero_snr, Parameterization::V);
            for steps in [1, 2, 3, 5, 10, 20, 50, 100] {
                let prefix = format!("{name}.spaced.{steps}");
                let timesteps = space_timesteps(1000, steps).unwrap();
                let timesteps = Array1::from(timesteps).mapv(|t| t as i64).into_dyn();
                assert_eq!(timesteps, goldens.i64(&format!("{prefix}.timesteps")));
                if steps == 1 {
                    assert!(SpacedSchedule::new(&d, 1).is_err());
                    continue;
                }
                let s = SpacedSchedule::new(&d, steps).unwrap();
                for (key, found) in [
                    ("sqrt_alphas_cumprod", &s.sqrt_alphas_cumprod),
                    (
                        "sqrt_one_minus_alphas_cumprod",
                        &s.sqrt_one_minus_alphas_cumprod,
                    ),
                    ("sqrt_recip_alphas_cumprod", &s.sqrt_recip_alphas_cumprod),
                    (
                        "sqrt_recipm1_alphas_cumprod",
                        &s.sqrt_recipm1_alphas_cumprod,
                    ),
                    ("posterior_variance", &s.posterior_variance),
                    (
                        "posterior_log_variance_clipped",
                        &s.posterior_log_variance_clipped,
                    ),
                    ("posterior_mean_coef1", &s.posterior_mean_coef1),
                    ("posterior_mean_coef2", &s.posterior_mean_coef2),
                ] {
                    max = max.max(check_ulps(&goldens, &format!("{prefix}.{key}"), found));
                }
            }
        }
        eprintln!("spaced: max {max} ulp");
    });
}

#[test]
fn cfg_rescale() {
    with_reference("cfg_rescale", |folder| {
        let goldens = Goldens::open(folder.join("schedule.safetensors"));
        for scale in [4.0, 8.0] {
            let cfg = Cfg {
                scale,
                rescale: true,
            };
            let name = format!("cfg_rescale.scale{scale}.per_t");
            let found = Array1::from_shape_fn(1000, |t| cfg.scale_at(t as f64)).into_dyn();
            let max = assert_close(&name, &found, &goldens.f64(&name), rel(1e-12));
            eprintln!("{name}: max difference {max:e}");
        }
    });
}
