//! Choice of a graph's variant. A bundle holds variants made for one provider each.

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

/// A graph's variant on disk, made for one provider. Its weights are in the graph's external data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantFile {
    /// Its name among the graph's variants.
    pub name: String,
    /// The provider it was made for.
    pub provider: ProviderKind,
    /// Its file.
    pub path: PathBuf,
    /// Its role.
    pub role: Role,
    /// Whether it computes in int8 where that costs little quality: an approximation, used on request only.
    pub int8: bool,
    /// See [`GraphInfo::shares_prefix`].
    pub shares_prefix: bool,
    /// The tensor of cached features, an output of the whole graph and an input of the shallow variant, if there are
    /// both.
    pub features: Option<String>,
    /// Number of values that later denoiser calls reuse, for each batch row and latent pixel.
    pub values_per_pixel: usize,
}

/// The role of a variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The whole graph.
    #[default]
    Whole,
    /// The last layers alone, on features cached by an earlier run of the whole graph (DeepCache).
    Shallow,
    /// The whole graph in parts that are loaded one at a time (weight-streamed denoiser).
    Parts,
    /// The ControlNet alone (split denoiser): the residuals that are added to the UNet.
    Control,
    /// The UNet alone, on these residuals.
    Unet,
}

impl Role {
    /// Suffix of the names of networks in this role, if they are loaded under a name of their own.
    fn suffix(self) -> Option<&'static str> {
        match self {
            Role::Whole | Role::Parts => None,
            Role::Shallow => Some("/shallow"),
            Role::Control => Some("/control"),
            Role::Unet => Some("/unet"),
        }
    }
}

/// The graph and the role of the network `name`.
#[cfg(feature = "onnx")]
pub(super) fn graph_of(name: &str) -> (&str, Role) {
    let roles = [Role::Shallow, Role::Control, Role::Unet].into_iter();
    let mut found = roles.filter_map(|role| Some((name.strip_suffix(role.suffix()?)?, role)));
    found.next().unwrap_or((name, Role::Whole))
}

/// Whether sessions are given this provider: an optional one that does not load is skipped.
#[cfg(feature = "onnx")]
fn is_given(provider: &Provider, options: &RuntimeOptions) -> bool {
    !provider.optional || matches!(registration::probe(provider, options), Ok(Ok(())))
}

/// Without ONNX Runtime, optional providers are skipped.
#[cfg(not(feature = "onnx"))]
fn is_given(provider: &Provider, _: &RuntimeOptions) -> bool {
    !provider.optional
}

impl GraphFile {
    /// The variant with this role made for the first provider in use, if any: CUDA's operators, for example, load with
    /// no other provider. On request an int8 variant, if there is one.
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

    /// Whether the graph runs in int8 under `options`.
    #[cfg(feature = "onnx")]
    pub(super) fn runs_int8(&self, options: &RuntimeOptions) -> bool {
        let whole = self.variant(options, Role::Whole);
        self.parts(options).is_none() && whole.is_some_and(|variant| variant.int8)
    }

    /// The weight-streamed variant, with `memory: least`.
    pub(super) fn parts(&self, options: &RuntimeOptions) -> Option<&VariantFile> {
        let least = options.memory == MemoryPolicy::Least;
        self.variant(options, Role::Parts).filter(|_| least)
    }

    /// How the graph runs under `options`. The provider is known only once the graph is loaded.
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

    /// The file for `role` under `options`.
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle) if there is none.
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

    /// The names of the inputs and outputs of the network with this role.
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
