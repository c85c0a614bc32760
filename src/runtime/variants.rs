//! Which form of a graph runs: bundles hold graphs in forms made for single providers.

#[cfg(feature = "onnx")]
use std::path::Path;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(feature = "onnx")]
use crate::error::{Error, Result};
use crate::nets::{Deep, Form};
use crate::runtime::{GraphFile, MemoryPolicy, ProviderKind, RuntimeOptions};

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
}

/// What the name of a graph's shallow network ends with.
const SHALLOW: &str = "/shallow";

/// The graph that the network `name` belongs to, and whether it is its shallow one.
#[cfg(feature = "onnx")]
pub(super) fn graph_of(name: &str) -> (&str, bool) {
    match name.strip_suffix(SHALLOW) {
        Some(graph) => (graph, true),
        None => (name, false),
    }
}

impl GraphFile {
    /// The variant of this role that was made for the graph's first provider, if any.
    pub(super) fn variant(&self, options: &RuntimeOptions, role: Role) -> Option<&VariantFile> {
        let first = options.providers_of(&self.name).first()?.kind();
        let fits = |variant: &&VariantFile| variant.provider == first && variant.role == role;
        self.variants.iter().find(fits).filter(|_| options.variants)
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
        let has_shallow = parts.is_none() && self.variant(options, Role::Shallow).is_some();
        let deep = variant.deep.as_ref().filter(|_| has_shallow);
        Form {
            variant: Some(variant.name.clone()),
            shares_prefix: variant.shares_prefix,
            deep: deep.map(|value| Deep {
                value: value.clone(),
                shallow: format!("{}{SHALLOW}", self.name),
            }),
        }
    }

    /// The file that holds the whole as it runs under `options`, or its shallow network.
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle) where there is no shallow one.
    #[cfg(feature = "onnx")]
    pub(super) fn file(&self, options: &RuntimeOptions, is_shallow: bool) -> Result<&Path> {
        let role = match is_shallow {
            true => Role::Shallow,
            false => Role::Whole,
        };
        match self.variant(options, role) {
            Some(variant) => Ok(&variant.path),
            None if !is_shallow => Ok(&self.path),
            None => {
                let message = format!("the graph `{}` has no shallow variant", self.name);
                Err(Error::bundle(message))
            }
        }
    }

    /// The names of the inputs and outputs that the whole must have, or its shallow network.
    #[cfg(feature = "onnx")]
    pub(super) fn contract(
        &self,
        options: &RuntimeOptions,
        is_shallow: bool,
    ) -> (Vec<String>, Vec<String>) {
        let (mut inputs, mut outputs) = (self.kind.inputs(), self.kind.outputs());
        if let Some(deep) = self.form(options).deep {
            match is_shallow {
                true => inputs.push(deep.value),
                false => outputs.push(deep.value),
            }
        }
        (inputs, outputs)
    }
}
