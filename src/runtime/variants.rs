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
    /// Whether it computes in 8 bits where that costs little: an approximation, taken only if it is asked for.
    pub int8: bool,
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

/// Refuses to be asked for 8 bits that no graph can run in.
///
/// # Errors
/// [`Bundle`](crate::error::ErrorKind::Bundle) where no graph has such a variant, [`Option`](crate::error::ErrorKind::Option)
/// where other options keep every one from being taken.
#[cfg(feature = "onnx")]
pub(super) fn check_int8(graphs: &[GraphFile], options: &RuntimeOptions) -> Result<()> {
    if !options.int8 || graphs.iter().any(|graph| graph.runs_int8(options)) {
        return Ok(());
    }
    let mut variants = graphs.iter().flat_map(|graph| &graph.variants);
    if !variants.any(|variant| variant.int8) {
        return Err(Error::bundle(
            "runtime.int8 is true, but the bundle has no graph in int8: `python -m diffbir_export.quantize BUNDLE --pictures DIR` \
             adds some for the CPU",
        ));
    }
    Err(Error::option(
        "runtime.int8 is true, but no graph would run in int8: it is for graphs whose first provider is the CPU, with \
         runtime.variants on, and for the denoiser without runtime.memory: least",
    ))
}

impl GraphFile {
    /// The variant of this role that was made for the graph's first provider, if any: the one in 8 bits where that is
    /// asked for and there is one.
    pub(super) fn variant(&self, options: &RuntimeOptions, role: Role) -> Option<&VariantFile> {
        let first = options.providers_of(&self.name).first()?.kind();
        let of = |int8| {
            let fits = move |variant: &&VariantFile| {
                (variant.provider, variant.role, variant.int8) == (first, role, int8)
            };
            self.variants.iter().find(fits)
        };
        let int8 = if options.int8 { of(true) } else { None };
        int8.or_else(|| of(false)).filter(|_| options.variants)
    }

    /// Whether the graph runs in 8 bits under `options`.
    #[cfg(feature = "onnx")]
    fn runs_int8(&self, options: &RuntimeOptions) -> bool {
        let whole = self.variant(options, Role::Whole);
        self.parts(options).is_none() && whole.is_some_and(|variant| variant.int8)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::contract::GraphKind;

    fn variant(name: &str, role: Role, int8: bool) -> VariantFile {
        VariantFile {
            name: name.to_owned(),
            provider: ProviderKind::Cpu,
            path: PathBuf::from(format!("{name}.onnx")),
            role,
            int8,
            shares_prefix: true,
            deep: Some("deep".to_owned()),
        }
    }

    /// A denoiser; int8 comes first, so that its place decides nothing.
    fn denoiser(has_int8: bool) -> GraphFile {
        let exact = [
            variant("cpu", Role::Whole, false),
            variant("cpu-shallow", Role::Shallow, false),
            variant("cpu-parts", Role::Parts, false),
        ];
        let int8 = has_int8.then(|| variant("cpu-int8", Role::Whole, true));
        GraphFile {
            name: "denoiser".to_owned(),
            kind: GraphKind::Denoiser,
            path: PathBuf::from("denoiser.onnx"),
            segments: None,
            bytes: 0,
            variants: int8.into_iter().chain(exact).collect(),
            hashes: Vec::new(),
        }
    }

    fn options(int8: bool) -> RuntimeOptions {
        RuntimeOptions {
            int8,
            ..RuntimeOptions::default()
        }
    }

    fn form(graph: &GraphFile, options: &RuntimeOptions) -> Option<String> {
        graph.form(options).variant
    }

    #[test]
    fn int8_runs_only_if_it_is_asked_for() {
        assert!(!RuntimeOptions::default().int8);
        let graph = denoiser(true);
        let default = RuntimeOptions::default();
        assert_eq!(form(&graph, &default).as_deref(), Some("cpu"));
        assert_eq!(form(&graph, &options(true)).as_deref(), Some("cpu-int8"));
        let without = denoiser(false);
        assert_eq!(form(&without, &options(true)).as_deref(), Some("cpu"));
    }

    #[test]
    fn what_int8_leaves_is_taken_up_in_f32() {
        let graph = denoiser(true);
        let taken = graph.variant(&options(true), Role::Shallow).unwrap();
        assert_eq!(taken.name, "cpu-shallow");
        let deep = graph.form(&options(true)).deep.unwrap();
        assert_eq!(deep.shallow, "denoiser/shallow");
    }

    #[cfg(feature = "onnx")]
    #[test]
    fn int8_that_cannot_run_is_refused() {
        use crate::error::ErrorKind;
        use crate::runtime::Provider;

        let check = |has_int8, options: &RuntimeOptions| check_int8(&[denoiser(has_int8)], options);
        check(true, &options(true)).unwrap();
        check(false, &options(false)).unwrap();
        let error = check(false, &options(true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bundle);
        assert_eq!(error.kind().exit_code(), 3);
        assert!(error.to_string().contains("diffbir_export.quantize"));
        let blocked = [
            RuntimeOptions {
                variants: false,
                ..options(true)
            },
            RuntimeOptions {
                memory: MemoryPolicy::Least,
                ..options(true)
            },
            RuntimeOptions {
                providers: vec![Provider::new(ProviderKind::Cuda)],
                ..options(true)
            },
        ];
        for options in blocked {
            let error = check(true, &options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Option, "{error}");
        }
    }
}
