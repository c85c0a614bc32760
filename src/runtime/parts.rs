//! Weight-streamed denoiser: a graph in parts, loaded one at a time. Slow, with the lowest memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ndarray::ArrayD;
use serde::Deserialize;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::nets::{Input, Network};
use crate::runtime::{GraphFile, RuntimeOptions, Session};
use crate::tensor::safetensors_text;

/// The version of the plan that this engine reads.
const VERSION: u64 = 1;

/// How a graph is divided into parts: the plan in the metadata of `NAME.parts.safetensors`.
#[derive(Debug, Deserialize)]
struct Plan {
    version: u64,
    parts: Vec<Part>,
}

/// A part: the name of its graph in the file, and the names of its inputs and outputs.
#[derive(Debug, Deserialize)]
struct Part {
    graph: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

/// A graph whose parts are loaded in every run.
pub(super) struct Parts {
    graph: GraphFile,
    path: PathBuf,
    options: RuntimeOptions,
    plan: Plan,
    provider: String,
    cancel: Cancel,
}

impl Parts {
    /// Opens the parts of `graph` in the file `path`. The first part is loaded once to find its provider.
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle) if the file is damaged; otherwise as [`Session::load`].
    pub(super) fn open(graph: &GraphFile, path: PathBuf, options: &RuntimeOptions) -> Result<Self> {
        let place = path.display().to_string();
        let damaged = |e: &dyn std::fmt::Display| Error::bundle(format!("damaged parts: {e}"));
        let read = || {
            let bytes = std::fs::read(&path).map_err(|e| damaged(&e))?;
            let text = safetensors_text(&bytes, "plan").map_err(|e| damaged(&e))?;
            let plan: Plan = serde_json::from_str(&text).map_err(|e| damaged(&e))?;
            plan.check(graph)?;
            Ok(plan)
        };
        let plan: Plan = read().map_err(|e: Error| e.at(&place))?;
        let first = Session::load_embedded(graph, &path, &plan.parts[0].graph, options)?;
        Ok(Parts {
            graph: graph.clone(),
            provider: first.provider().to_owned(),
            options: options.clone(),
            path,
            plan,
            cancel: Cancel::default(),
        })
    }

    /// Passes the flag that ends a part's run.
    pub(super) fn cancelled_by(&mut self, cancel: &Cancel) {
        self.cancel = cancel.clone();
    }

    /// The provider with the most nodes of the first part, by ONNX Runtime's name.
    pub(super) fn provider(&self) -> &str {
        &self.provider
    }
}

impl Plan {
    /// Checks the version, and that every value is computed before it is used.
    fn check(&self, graph: &GraphFile) -> Result<()> {
        if self.version != VERSION || self.parts.is_empty() {
            return Err(Error::bundle(format!(
                "{} parts of version {}, expected version {VERSION}",
                self.parts.len(),
                self.version
            )));
        }
        let mut there: BTreeSet<String> = graph.kind.inputs().into_iter().collect();
        for part in &self.parts {
            if let Some(missing) = part.inputs.iter().find(|name| !there.contains(*name)) {
                return Err(Error::bundle(format!(
                    "part {} needs `{missing}`, which no part before it makes",
                    part.graph
                )));
            }
            there.extend(part.outputs.iter().cloned());
        }
        match graph
            .kind
            .outputs()
            .iter()
            .find(|name| !there.contains(*name))
        {
            Some(missing) => Err(Error::bundle(format!("no part makes `{missing}`"))),
            None => Ok(()),
        }
    }

    /// Whether a part after the `k`th needs `name`.
    fn is_needed_after(&self, k: usize, name: &str) -> bool {
        let later = self.parts.iter().skip(k + 1);
        later
            .flat_map(|part| &part.inputs)
            .any(|input| input == name)
    }
}

impl Network for Parts {
    fn run(&mut self, inputs: &[(&str, Input<'_>)], outputs: &[&str]) -> Result<Vec<ArrayD<f32>>> {
        let mut made: BTreeMap<String, ArrayD<f32>> = BTreeMap::new();
        for (k, part) in self.plan.parts.iter().enumerate() {
            let mut session =
                Session::load_embedded(&self.graph, &self.path, &part.graph, &self.options)?;
            session.cancelled_by(&self.cancel);
            let given = part.inputs.iter().map(|name| {
                let outside = inputs.iter().find(|(given, _)| given == name);
                let value = match outside {
                    Some((_, input)) => Some(input.view()),
                    None => made.get(name).map(Input::from),
                };
                let gone = || Error::internal(format!("the value `{name}` is gone"));
                Ok((name.as_str(), value.ok_or_else(gone)?))
            });
            let given = given.collect::<Result<Vec<_>>>()?;
            let names: Vec<&str> = part.outputs.iter().map(String::as_str).collect();
            let found = session.run(&given, &names)?;
            drop(given);
            made.extend(part.outputs.iter().cloned().zip(found));
            made.retain(|name, _| {
                outputs.contains(&name.as_str()) || self.plan.is_needed_after(k, name)
            });
        }
        let take = |name: &&str| {
            let missing = || Error::bundle(format!("no part makes `{name}`"));
            made.remove(*name).ok_or_else(missing)
        };
        outputs.iter().map(take).collect()
    }
}
