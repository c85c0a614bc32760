//! Sampler parameters: options that only some samplers use.

use crate::error::{Error, Result};

/// The sampler parameters that are set; the others are at the sampler's default.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SamplerParameters {
    /// Churn, the noise added before steps, in total over all steps (S_churn of Karras et al., arXiv 2206.00364,
    /// algorithm 2), at least 0. Default: 0.
    pub s_churn: Option<f64>,
    /// The lowest sigma at which `s_churn` acts, at least 0. Default: 0.
    pub s_tmin: Option<f64>,
    /// The highest sigma at which `s_churn` acts, at least 0. Default: 300.
    pub s_tmax: Option<f64>,
    /// Factor on all added noise, at least 0. Default: 1.
    pub s_noise: Option<f64>,
    /// Stochasticity: 0 is deterministic, 1 a full ancestral step. Default: 1 (`ddim`: 0).
    pub eta: Option<f64>,
    /// Order of the solver. Default: 1 (`unipc`: 2).
    pub order: Option<usize>,
}

/// A parameter that a sampler uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplerParameter {
    /// [`SamplerParameters::s_churn`].
    SChurn,
    /// [`SamplerParameters::s_tmin`].
    STmin,
    /// [`SamplerParameters::s_tmax`].
    STmax,
    /// [`SamplerParameters::s_noise`].
    SNoise,
    /// [`SamplerParameters::eta`].
    Eta,
    /// [`SamplerParameters::eta`] of at most 1: more noise than a step contains cannot be added.
    EtaToOne,
    /// [`SamplerParameters::order`] in this range.
    Order(usize, usize),
}

impl SamplerParameter {
    /// The key of the option.
    pub fn key(self) -> &'static str {
        match self {
            SamplerParameter::SChurn => "s_churn",
            SamplerParameter::STmin => "s_tmin",
            SamplerParameter::STmax => "s_tmax",
            SamplerParameter::SNoise => "s_noise",
            SamplerParameter::Eta | SamplerParameter::EtaToOne => "eta",
            SamplerParameter::Order(..) => "order",
        }
    }

    /// The range of valid values.
    fn range(self) -> (f64, f64) {
        match self {
            SamplerParameter::EtaToOne => (0.0, 1.0),
            SamplerParameter::Order(low, high) => (low as f64, high as f64),
            _ => (0.0, f64::MAX),
        }
    }
}

impl SamplerParameters {
    /// The parameters that are set, with their keys.
    pub fn set(&self) -> Vec<(&'static str, f64)> {
        let all = [
            ("s_churn", self.s_churn),
            ("s_tmin", self.s_tmin),
            ("s_tmax", self.s_tmax),
            ("s_noise", self.s_noise),
            ("eta", self.eta),
            ("order", self.order.map(|order| order as f64)),
        ];
        all.into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }

    /// Checks the parameters that are set against those that the sampler `name` uses.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) for a parameter that the sampler ignores, with the list of those it
    /// uses, and for a value out of range.
    pub fn check(&self, name: &str, used: &[SamplerParameter]) -> Result<()> {
        for (key, value) in self.set() {
            let Some(parameter) = used.iter().find(|parameter| parameter.key() == key) else {
                let keys: Vec<&str> = used.iter().map(|parameter| parameter.key()).collect();
                let uses = match keys.is_empty() {
                    true => "no parameters".to_owned(),
                    false => keys.join(", "),
                };
                return Err(Error::option(format!(
                    "sampling.{key} is set, but the sampler {name} ignores it (it uses {uses})"
                )));
            };
            let (low, high) = parameter.range();
            if !(low..=high).contains(&value) {
                let expected = match high {
                    f64::MAX => format!("at least {low}"),
                    _ => format!("{low} to {high}"),
                };
                return Err(Error::option(format!(
                    "sampling.{key} is {value}, expected {expected} for the sampler {name}"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_or_out_of_range_is_refused() {
        let with_eta = |eta| SamplerParameters {
            eta: Some(eta),
            ..SamplerParameters::default()
        };
        let message = |eta, used: &[SamplerParameter]| {
            with_eta(eta).check("x", used).unwrap_err().to_string()
        };
        assert_eq!(
            message(0.5, &[]),
            "sampling.eta is set, but the sampler x ignores it (it uses no parameters)"
        );
        assert_eq!(
            message(0.5, &[SamplerParameter::SChurn, SamplerParameter::SNoise]),
            "sampling.eta is set, but the sampler x ignores it (it uses s_churn, s_noise)"
        );
        assert_eq!(
            message(1.5, &[SamplerParameter::EtaToOne]),
            "sampling.eta is 1.5, expected 0 to 1 for the sampler x"
        );
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(
                message(bad, &[SamplerParameter::Eta])
                    .ends_with("expected at least 0 for the sampler x")
            );
        }
        assert!(with_eta(1.5).check("x", &[SamplerParameter::Eta]).is_ok());
    }
}
