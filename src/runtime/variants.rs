//! Which form of a graph runs: bundles hold graphs in forms made for single providers.

use std::path::{Path, PathBuf};

use crate::nets::{Deep, Form};
use crate::runtime::{GraphFile, ProviderKind, RuntimeOptions};

/// A form of a graph on disk, made for one provider. Its weights lie in the graph's external data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantFile {
    /// Its name among the graph's variants.
    pub name: String,
    /// What it was made for.
    pub provider: ProviderKind,
    /// The `.onnx` file.
    pub path: PathBuf,
    /// Whether it computes the graph's outputs from [`deep`](Self::deep) alone with the inputs.
    pub is_shallow: bool,
    /// See [`Form::shares_prefix`].
    pub shares_prefix: bool,
    /// The value that the whole leaves for the shallow variant, where there are both.
    pub deep: Option<String>,
}

/// What the name of a graph's shallow network ends with.
const SHALLOW: &str = "/shallow";

/// The graph that the network `name` belongs to, and whether it is its shallow one.
pub(super) fn graph_of(name: &str) -> (&str, bool) {
    match name.strip_suffix(SHALLOW) {
        Some(graph) => (graph, true),
        None => (name, false),
    }
}

impl GraphFile {
    /// The variant that runs, if any: one made for the graph's first provider.
    fn variant(&self, options: &RuntimeOptions, is_shallow: bool) -> Option<&VariantFile> {
        let first = options.providers_of(&self.name).first()?.kind;
        let fits =
            |variant: &&VariantFile| variant.provider == first && variant.is_shallow == is_shallow;
        self.variants.iter().find(fits).filter(|_| options.variants)
    }

    /// How the graph is run under `options`.
    pub fn form(&self, options: &RuntimeOptions) -> Form {
        let Some(variant) = self.variant(options, false) else {
            return Form::default();
        };
        let has_shallow = self.variant(options, true).is_some();
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

    /// The file that runs under `options`; none where a shallow one is asked for and there is none.
    pub(super) fn file(&self, options: &RuntimeOptions, is_shallow: bool) -> Option<&Path> {
        match self.variant(options, is_shallow) {
            Some(variant) => Some(&variant.path),
            None => (!is_shallow).then_some(self.path.as_path()),
        }
    }

    /// The names of the inputs and outputs that such a file must have.
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
