//! Which variant of a graph runs: bundles hold graphs in variants made for single providers.

#[cfg(feature = "onnx")]
use std::path::Path;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use crate::error::{Error, Result};
#[cfg(feature = "onnx")]
use crate::nets::contract::GraphKind;
use crate::nets::{FeatureCache, GraphInfo, SplitDenoiser};
#[cfg(feature = "onnx")]
use crate::runtime::registration;
use crate::runtime::{GraphFile, MemoryPolicy, Provider, ProviderKind, RuntimeOptions};

/// A variant of a graph on disk, made for one provider. Its weights lie in the graph's external data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantFile {
    /// Its name among the graph's variants.
    pub name: String,
    /// What it was made for.
    pub provider: ProviderKind,
    /// Its file.
    pub path: PathBuf,
    /// What it computes.
    pub role: Role,
    /// Whether it computes in 8 bits where that costs little: an approximation, taken only if it is asked for.
    pub int8: bool,
    /// See [`GraphInfo::shares_prefix`].
    pub shares_prefix: bool,
    /// The tensor with the cached features, which the whole makes and the shallow variant takes, where there are both.
    pub features: Option<String>,
    /// How many values it makes that later denoiser calls reuse, for each row and latent pixel.
    pub values_per_pixel: usize,
}

/// What a variant computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the graph computes.
    #[default]
    Whole,
    /// The same from features that an earlier run of the whole has made.
    Shallow,
    /// The same in parts, of which one at a time is loaded.
    Parts,
    /// The residuals that the ControlNet adds to the UNet.
    Control,
    /// The same from these residuals.
    Unet,
}

impl Role {
    /// What the name of a network in this role ends with, where it is a part of a graph that is loaded alone.
    fn suffix(self) -> Option<&'static str> {
        match self {
            Role::Whole | Role::Parts => None,
            Role::Shallow => Some("/shallow"),
            Role::Control => Some("/control"),
            Role::Unet => Some("/unet"),
        }
    }
}

/// The graph that the network `name` belongs to, and its role there.
#[cfg(feature = "onnx")]
pub(super) fn graph_of(name: &str) -> (&str, Role) {
    let roles = [Role::Shallow, Role::Control, Role::Unet].into_iter();
    let mut found = roles.filter_map(|role| Some((name.strip_suffix(role.suffix()?)?, role)));
    found.next().unwrap_or((name, Role::Whole))
}

/// Whether the provider runs graphs here, or is optional and does not load.
#[cfg(feature = "onnx")]
fn is_given(provider: &Provider, options: &RuntimeOptions) -> bool {
    !provider.optional || matches!(registration::probe(provider, options), Ok(Ok(())))
}

/// Nothing runs graphs here.
#[cfg(not(feature = "onnx"))]
fn is_given(provider: &Provider, _: &RuntimeOptions) -> bool {
    !provider.optional
}

impl GraphFile {
    /// The variant of this role that was made for the first of the graph's providers that it is given, if any: what is
    /// made of CUDA's operators loads nowhere else. The one in 8 bits where that is asked for and there is one.
    pub(super) fn variant(&self, options: &RuntimeOptions, role: Role) -> Option<&VariantFile> {
        if !options.variants || self.variants.is_empty() {
            return None;
        }
        let mut providers = options.providers_of(&self.name).iter();
        let first = providers.find(|provider| is_given(provider, options))?;
        let of = |int8| {
            let fits = move |variant: &&VariantFile| {
                (variant.provider, variant.role, variant.int8) == (first.kind(), role, int8)
            };
            self.variants.iter().find(fits)
        };
        let int8 = if options.int8 { of(true) } else { None };
        int8.or_else(|| of(false))
    }

    /// Whether the graph runs in 8 bits under `options`.
    #[cfg(feature = "onnx")]
    pub(super) fn runs_int8(&self, options: &RuntimeOptions) -> bool {
        let whole = self.variant(options, Role::Whole);
        self.parts(options).is_none() && whole.is_some_and(|variant| variant.int8)
    }

    /// The variant in parts, where memory is to be spared.
    pub(super) fn parts(&self, options: &RuntimeOptions) -> Option<&VariantFile> {
        let least = options.memory == MemoryPolicy::Least;
        self.variant(options, Role::Parts).filter(|_| least)
    }

    /// How the graph runs under `options`; which provider it runs on is known once it is loaded.
    pub fn info(&self, options: &RuntimeOptions) -> GraphInfo {
        let parts = self.parts(options);
        let Some(variant) = parts.or_else(|| self.variant(options, Role::Whole)) else {
            return GraphInfo::default();
        };
        let has = |role| parts.is_none() && self.variant(options, role).is_some();
        let named = |role: Role| format!("{}{}", self.name, role.suffix().unwrap_or_default());
        let features = variant.features.as_ref().filter(|_| has(Role::Shallow));
        let split = |control: &VariantFile| SplitDenoiser {
            values_per_pixel: control.values_per_pixel,
            control: named(Role::Control),
            unet: named(Role::Unet),
        };
        let control = self.variant(options, Role::Control);
        let control = control.filter(|_| has(Role::Control) && has(Role::Unet));
        GraphInfo {
            provider: None,
            variant: Some(variant.name.clone()),
            shares_prefix: variant.shares_prefix,
            features: features.map(|tensor| FeatureCache {
                tensor: tensor.clone(),
                values_per_pixel: variant.values_per_pixel,
                shallow: named(Role::Shallow),
            }),
            split: control.map(split),
        }
    }

    /// The file of what runs as `role` under `options`.
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle) where there is none.
    #[cfg(feature = "onnx")]
    pub(super) fn file(&self, options: &RuntimeOptions, role: Role) -> Result<&Path> {
        match self.variant(options, role) {
            Some(variant) => Ok(&variant.path),
            None if role == Role::Whole => Ok(&self.path),
            None => {
                let message = format!("the graph `{}` has no variant {role:?}", self.name);
                Err(Error::bundle(message))
            }
        }
    }

    /// The names of the inputs and outputs of what runs as `role`.
    #[cfg(feature = "onnx")]
    pub(super) fn contract(
        &self,
        options: &RuntimeOptions,
        role: Role,
    ) -> (Vec<String>, Vec<String>) {
        let kind = match role {
            Role::Control => GraphKind::Control,
            Role::Unet => GraphKind::Unet,
            Role::Whole | Role::Parts | Role::Shallow => self.kind,
        };
        let (mut inputs, mut outputs) = (kind.inputs(), kind.outputs());
        let features = self.info(options).features.map(|cache| cache.tensor);
        match role {
            Role::Whole => outputs.extend(features),
            Role::Shallow => inputs.extend(features),
            Role::Parts | Role::Control | Role::Unet => {}
        }
        (inputs, outputs)
    }
}

#[cfg(test)]
mod tests;
