//! Schedules: f64 ones to 1e-12 relative, f32 ones to 2 ulp.

use diffbir::denoise::{Cfg, Parameterization};
use diffbir::schedule::{
    DdimSchedule, EdmSchedule, Fidelity, LogSnrSchedule, SpacedSchedule, linspace, space_timesteps,
};
use ndarray::{Array1, ArrayD};

use crate::analytic::diffusion;
use crate::common::{Goldens, assert_close, rel, ulps, with_reference};

const SCHEDULES: [(&str, bool); 2] = [("linear", false), ("zsnr", true)];

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
                ..Cfg::default()
            };
            let name = format!("cfg_rescale.scale{scale}.per_t");
            let found = Array1::from_shape_fn(1000, |t| cfg.scale_at(t as f64)).into_dyn();
            let max = assert_close(&name, &found, &goldens.f64(&name), rel(1e-12));
            eprintln!("{name}: max difference {max:e}");
        }
    });
}

fn vector(values: Vec<f32>) -> ArrayD<f32> {
    Array1::from(values).into_dyn()
}

#[test]
fn schedule_ddim() {
    with_reference("schedule_ddim", |folder| {
        let goldens = Goldens::open(folder.join("schedule.safetensors"));
        let mut max = 0;
        for (name, zero_snr) in SCHEDULES {
            let d = diffusion(zero_snr, Parameterization::V);
            for (steps, eta) in [(5, 0), (5, 1), (10, 0), (10, 1), (50, 0), (50, 1)] {
                let prefix = format!("{name}.ddim.{steps}");
                let s = DdimSchedule::new(&d, steps, f64::from(eta)).unwrap().steps;
                // Ascending there, in the order of sampling here.
                let timesteps = s.iter().rev().map(|step| step.timestep as i64);
                assert!(timesteps.eq(goldens.i64(&format!("{prefix}.timesteps"))));
                let mut check = |key: &str, value: &dyn Fn(&diffbir::schedule::DdimStep) -> f32| {
                    let found: Vec<f64> = s.iter().rev().map(|step| value(step).into()).collect();
                    let name = format!("{prefix}.eta{eta}.ddim_{key}");
                    max = max.max(check_ulps(&goldens, &name, &found));
                };
                check("sigmas", &|step| step.sigma);
                check("alphas", &|step| step.alpha_prod_t);
                check("sqrt_alphas", &|step| step.sqrt_alpha_prod_t);
                check("alphas_prev", &|step| step.alpha_prod_t_prev);
                check("sqrt_one_minus_alphas", &|step| step.sqrt_beta_prod_t);
            }
        }
        eprintln!("ddim: max {max} ulp");
    });
}

#[test]
fn schedule_edm() {
    with_reference("schedule_edm", |folder| {
        let goldens = Goldens::open(folder.join("schedule.safetensors"));
        let mut max = 0;
        for (name, zero_snr) in SCHEDULES {
            let d = diffusion(zero_snr, Parameterization::V);
            for steps in [1, 2, 4, 5, 10, 50] {
                let prefix = format!("{name}.edm.{steps}");
                let s = EdmSchedule::new(&d, steps, Fidelity::Reference).unwrap();
                let timesteps = s.timesteps.iter().map(|&t| t as i64);
                assert!(timesteps.eq(goldens.i64(&format!("{prefix}.timesteps"))));
                let sigmas: Vec<f64> = s.sigmas.iter().map(|&sigma| sigma.into()).collect();
                max = max.max(check_ulps(&goldens, &format!("{prefix}.sigmas"), &sigmas));
            }
        }
        eprintln!("edm: max {max} ulp");
    });
}

/// In f32 there as here: the two differ by what the last digit of a logarithm does to a difference of two.
#[test]
fn schedule_log_snr() {
    with_reference("schedule_log_snr", |folder| {
        let goldens = Goldens::open(folder.join("schedule.safetensors"));
        let mut max = 0.0_f64;
        for (name, zero_snr) in SCHEDULES {
            let s = LogSnrSchedule::new(&diffusion(zero_snr, Parameterization::V));
            let table = goldens.f32(&format!("{name}.dpm.log_alpha_array"));
            assert_eq!(s.len(), table.len());
            for steps in [5, 10, 20] {
                let times = linspace(1.0, s.end(), steps + 1);
                let labels = times.iter().map(|t| (t - s.end()) * 1000.0).collect();
                let on_times = |f: &dyn Fn(f32) -> f32| times.iter().map(|&t| f(t)).collect();
                for (key, found) in [
                    ("t", times.clone()),
                    ("model_t", labels),
                    ("alpha", on_times(&|t| s.alpha(t))),
                    ("sigma", on_times(&|t| s.sigma(t))),
                    ("lambda", on_times(&|t| s.lambda(t))),
                ] {
                    let key = format!("{name}.dpm.{steps}.{key}");
                    let tolerance = crate::common::Tolerance {
                        abs: 2e-6,
                        rel: 2e-6,
                    };
                    let worst = assert_close(&key, &vector(found), &goldens.f32(&key), tolerance);
                    max = max.max(worst);
                }
            }
        }
        eprintln!("log-SNR: max difference {max:.1e}");
    });
}
