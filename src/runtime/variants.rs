//! Which form of a graph runs: bundles hold graphs in forms made for single providers.

#[cfg(feature = "onnx")]
use std::path::Path;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use crate::error::{Error, Result};
#[cfg(feature = "onnx")]
use crate::nets::contract::GraphKind;
use crate::nets::{Deep, Form, Halves};
#[cfg(feature = "onnx")]
use crate::runtime::registration;
use crate::runtime::{GraphFile, MemoryPolicy, Provider, ProviderKind, RuntimeOptions};

/// A form of a graph on disk, made for one provider. Its weights lie in the graph's external data.
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
    /// See [`Form::shares_prefix`].
    pub shares_prefix: bool,
    /// The value that the whole leaves for the shallow variant, where there are both.
    pub deep: Option<String>,
    /// How many values it leaves for later runs, for each row and latent cell.
    pub left: usize,
}

/// What a variant computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the graph computes.
    #[default]
    Whole,
    /// The same from a value that an earlier run of the whole has left.
    Shallow,
    /// The same in parts, of which one at a time is loaded.
    Parts,
    /// What the control module adds to the UNet.
    Control,
    /// The same from what the control module adds.
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

/// Whether the provider runs graphs here, or is one that is passed over.
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
    /// made of CUDA's operators loads nowhere else.
    pub(super) fn variant(&self, options: &RuntimeOptions, role: Role) -> Option<&VariantFile> {
        if !options.variants || self.variants.is_empty() {
            return None;
        }
        let mut providers = options.providers_of(&self.name).iter();
        let first = providers.find(|provider| is_given(provider, options))?;
        let fits =
            |variant: &&VariantFile| variant.provider == first.kind() && variant.role == role;
        self.variants.iter().find(fits)
    }

    /// The variant in parts, where memory is to be spared.
    pub(super) fn parts(&self, options: &RuntimeOptions) -> Option<&VariantFile> {
        let least = options.memory == MemoryPolicy::Least;
        self.variant(options, Role::Parts).filter(|_| least)
    }

    /// How the graph is run under `options`.
    pub fn form(&self, options: &RuntimeOptions) -> Form {
        let parts = self.parts(options);
        let Some(variant) = parts.or_else(|| self.variant(options, Role::Whole)) else {
            return Form::default();
        };
        let has = |role| parts.is_none() && self.variant(options, role).is_some();
        let named = |role: Role| format!("{}{}", self.name, role.suffix().unwrap_or_default());
        let deep = variant.deep.as_ref().filter(|_| has(Role::Shallow));
        let halves = |control: &VariantFile| Halves {
            left: control.left,
            control: named(Role::Control),
            unet: named(Role::Unet),
        };
        let control = self.variant(options, Role::Control);
        let control = control.filter(|_| has(Role::Control) && has(Role::Unet));
        Form {
            variant: Some(variant.name.clone()),
            shares_prefix: variant.shares_prefix,
            deep: deep.map(|value| Deep {
                value: value.clone(),
                left: variant.left,
                shallow: named(Role::Shallow),
            }),
            halves: control.map(halves),
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
        let deep = self.form(options).deep.map(|deep| deep.value);
        match role {
            Role::Whole => outputs.extend(deep),
            Role::Shallow => inputs.extend(deep),
            Role::Parts | Role::Control | Role::Unet => {}
        }
        (inputs, outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::contract::GraphKind;

    fn variant(name: &str, provider: ProviderKind, role: Role) -> VariantFile {
        VariantFile {
            name: name.to_owned(),
            provider,
            path: PathBuf::from(format!("denoiser.{name}.onnx")),
            role,
            shares_prefix: true,
            deep: Some("deep".to_owned()),
            left: 32,
        }
    }

    fn denoiser() -> GraphFile {
        GraphFile {
            name: "denoiser".to_owned(),
            kind: GraphKind::Denoiser,
            path: PathBuf::from("denoiser.onnx"),
            segments: None,
            bytes: 0,
            variants: vec![
                variant("cpu", ProviderKind::Cpu, Role::Whole),
                variant("cuda", ProviderKind::Cuda, Role::Whole),
                variant("cuda-shallow", ProviderKind::Cuda, Role::Shallow),
            ],
            hashes: Vec::new(),
        }
    }

    fn on(providers: Vec<Provider>) -> RuntimeOptions {
        RuntimeOptions {
            library: Some(PathBuf::from("/nowhere/libonnxruntime.so")),
            providers,
            ..RuntimeOptions::default()
        }
    }

    fn chosen(options: &RuntimeOptions) -> Option<String> {
        denoiser().form(options).variant
    }

    #[test]
    fn the_first_providers_variant_is_taken() {
        use ProviderKind::{Cpu, Cuda, Tensorrt};
        let of = |kinds: &[ProviderKind]| {
            chosen(&on(kinds.iter().copied().map(Provider::new).collect()))
        };
        assert_eq!(of(&[Cuda]).as_deref(), Some("cuda"));
        assert_eq!(of(&[Cuda, Cpu]).as_deref(), Some("cuda"));
        assert_eq!(of(&[Cpu]).as_deref(), Some("cpu"));
        // TensorRT does not know CUDA's operators, though CUDA stands behind it.
        assert_eq!(of(&[Tensorrt, Cuda, Cpu]), None);
        let mut without = on(vec![Provider::new(Cuda)]);
        without.variants = false;
        assert_eq!(chosen(&without), None);
    }

    #[test]
    fn a_variant_has_its_own_shallow_part() {
        let form = |kind| denoiser().form(&on(vec![Provider::new(kind)]));
        let deep = form(ProviderKind::Cuda).deep;
        assert_eq!(
            deep.map(|deep| deep.shallow).as_deref(),
            Some("denoiser/shallow")
        );
        assert!(form(ProviderKind::Cpu).deep.is_none());
    }

    #[test]
    fn a_provider_that_is_passed_over_has_no_say() {
        let mut cuda = Provider::new(ProviderKind::Cuda);
        cuda.optional = true;
        let options = on(vec![cuda, Provider::new(ProviderKind::Cpu)]);
        assert_eq!(chosen(&options).as_deref(), Some("cpu"));
    }
}
