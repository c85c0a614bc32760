//! The samplers by the reference's names.

use super::dpm::Prediction::{Data, Noise};
use super::{SampleFn, SamplerParameter, ddim, dpm, edm, spaced, unipc};
use crate::error::{Error, Result, nearest};

/// An entry of the table of samplers.
#[derive(Debug, Clone, Copy)]
pub struct Sampler {
    /// The reference's name.
    pub name: &'static str,
    /// The smallest number of steps.
    pub min_steps: usize,
    /// The parameters that it uses.
    pub parameters: &'static [SamplerParameter],
    /// The algorithm.
    pub sample: SampleFn,
}

const CHURN: &[SamplerParameter] = &[
    SamplerParameter::SChurn,
    SamplerParameter::STmin,
    SamplerParameter::STmax,
    SamplerParameter::SNoise,
];
const ANCESTRAL: &[SamplerParameter] = &[SamplerParameter::Eta, SamplerParameter::SNoise];

const fn line(
    name: &'static str,
    min_steps: usize,
    parameters: &'static [SamplerParameter],
    sample: SampleFn,
) -> Sampler {
    Sampler {
        name,
        min_steps,
        parameters,
        sample,
    }
}

/// All samplers. The first fourteen are in the reference's help text; its parser accepts those from `dpm_s1` on as
/// well; `unipc` is not in the reference.
pub const SAMPLERS: &[Sampler] = &[
    line("spaced", 2, &[], spaced::sample),
    line("ddim", 1, &[SamplerParameter::EtaToOne], ddim::sample),
    line("dpm++_m2", 2, &[], |s, r, x| {
        dpm::multistep(s, r, x, Data, 2)
    }),
    line("edm_euler", 1, CHURN, edm::euler),
    line("edm_euler_a", 1, ANCESTRAL, edm::euler_ancestral),
    line("edm_heun", 1, CHURN, edm::heun),
    line("edm_dpm_2", 1, CHURN, edm::dpm_2),
    line("edm_dpm_2_a", 1, ANCESTRAL, edm::dpm_2_ancestral),
    line("edm_lms", 1, &[SamplerParameter::Order(1, 4)], edm::lms),
    line("edm_dpm++_2s_a", 1, ANCESTRAL, edm::dpmpp_2s_ancestral),
    line("edm_dpm++_sde", 1, ANCESTRAL, edm::dpmpp_sde),
    line("edm_dpm++_2m", 1, &[], edm::dpmpp_2m),
    line("edm_dpm++_2m_sde", 1, ANCESTRAL, edm::dpmpp_2m_sde),
    line("edm_dpm++_3m_sde", 1, ANCESTRAL, edm::dpmpp_3m_sde),
    line("unipc", 1, &[SamplerParameter::Order(2, 3)], unipc::sample),
    line("dpm_s1", 1, &[], |s, r, x| {
        dpm::singlestep(s, r, x, Noise, 1)
    }),
    line("dpm_s2", 1, &[], |s, r, x| {
        dpm::singlestep(s, r, x, Noise, 2)
    }),
    line("dpm_s3", 1, &[], |s, r, x| {
        dpm::singlestep(s, r, x, Noise, 3)
    }),
    line("dpm_m1", 1, &[], |s, r, x| {
        dpm::multistep(s, r, x, Noise, 1)
    }),
    line("dpm_m2", 2, &[], |s, r, x| {
        dpm::multistep(s, r, x, Noise, 2)
    }),
    line("dpm_m3", 3, &[], |s, r, x| {
        dpm::multistep(s, r, x, Noise, 3)
    }),
    line("dpm++_s1", 1, &[], |s, r, x| {
        dpm::singlestep(s, r, x, Data, 1)
    }),
    line("dpm++_s2", 1, &[], |s, r, x| {
        dpm::singlestep(s, r, x, Data, 2)
    }),
    line("dpm++_s3", 1, &[], |s, r, x| {
        dpm::singlestep(s, r, x, Data, 3)
    }),
    line("dpm++_m1", 1, &[], |s, r, x| {
        dpm::multistep(s, r, x, Data, 1)
    }),
    line("dpm++_m3", 3, &[], |s, r, x| {
        dpm::multistep(s, r, x, Data, 3)
    }),
];

/// The sampler called `name`.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for a name that is not in [`SAMPLERS`], with the most similar one.
pub fn by_name(name: &str) -> Result<&'static Sampler> {
    if let Some(sampler) = SAMPLERS.iter().find(|sampler| sampler.name == name) {
        return Ok(sampler);
    }
    let names: Vec<&str> = SAMPLERS.iter().map(|sampler| sampler.name).collect();
    let nearest = nearest(name, names.iter().copied());
    Err(Error::option(format!(
        "sampler: there is no `{name}`, did you mean `{nearest}`? (expected one of: {})",
        names.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (i, sampler) in SAMPLERS.iter().enumerate() {
            assert_eq!(by_name(sampler.name).unwrap().name, sampler.name);
            assert!(SAMPLERS[..i].iter().all(|other| other.name != sampler.name));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        for (wrong, right) in [("spacd", "spaced"), ("edm_dpm++_3m_sd", "edm_dpm++_3m_sde")] {
            let error = by_name(wrong).unwrap_err().to_string();
            assert!(
                error.contains(&format!("did you mean `{right}`?")),
                "{error}"
            );
        }
    }
}
