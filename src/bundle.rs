//! The bundle: a folder of graphs and the file that describes them, `bundle.yaml`.
//!
//! The exporter writes it, the engine reads it, and both validate it against one schema
//! (`export/diffbir_export/bundle.schema.json`). The engine has no other knowledge of a model.

mod external;
mod hashes;
mod manifest;
mod memory;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::error::{Error, ErrorKind, Result};
use crate::files::read_text;
use crate::nets::cldm::Context;
use crate::nets::cleaner::CleanerSpec;
use crate::nets::contract::GraphKind;
use crate::nets::segments::SegmentPlan;
use crate::options::{Options, SamplingOptions};
use crate::runtime::{GraphFile, ProviderKind, VariantFile};
use crate::{files, yaml};

pub use hashes::{Progress, sha256_bytes, sha256_file};
pub use manifest::{
    Checkpoint, ContextEntry, Contexts, Defaults, FORMAT, Graph, HashedFile, LatentConstants,
    Manifest, Task, Variant, Weights,
};

pub use memory::{GraphMemory, MEMORY, MemoryModel};

/// The largest file of contexts or segments that is read, in bytes: weights lie elsewhere.
const MAX_TENSORS: u64 = 1 << 30;

/// Name of the manifest.
pub const MANIFEST: &str = "bundle.yaml";

/// A bundle with a valid manifest.
#[derive(Debug, Clone)]
pub struct Bundle {
    dir: PathBuf,
    manifest: Manifest,
    memory: MemoryModel,
    /// Segment plans by graph, each read at its first use.
    segments: BTreeMap<String, OnceLock<Arc<SegmentPlan>>>,
    hash: String,
}

impl Bundle {
    /// Reads `dir/bundle.yaml` and validates it against the schema. The graphs are not read; see
    /// [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`Bundle`](ErrorKind::Bundle): no such folder or manifest, a newer format, a manifest that violates the schema,
    /// or a task or graph that refers to a missing entry.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let text = read_text(&path, yaml::MAX_BYTES).map_err(|e| {
            let what = if dir.is_dir() {
                "no bundle here: cannot read"
            } else {
                "no such bundle: cannot read"
            };
            Error::bundle(format!("{what} {}", path.display())).with_source(e)
        })?;
        let manifest = manifest::parse(&text).map_err(|e| e.at(path.display()))?;
        let cut = manifest
            .graphs
            .iter()
            .filter(|(_, graph)| graph.segments.is_some());
        let segments = cut
            .map(|(name, _)| (name.clone(), OnceLock::new()))
            .collect();
        let bundle = Bundle {
            dir: dir.to_owned(),
            manifest,
            segments,
            memory: memory::read(dir)?,
            hash: hashes::sha256_bytes(text.as_bytes()),
        };
        bundle
            .check_references()
            .map_err(|e| e.at(path.display()))?;
        Ok(bundle)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The contents of `bundle.yaml`.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The options of the family's published command, the base of a caller's own; [`Options::default`] without a
    /// diffusion model.
    pub fn options(&self) -> Options {
        let mut options = Options::default();
        let Some(defaults) = self.manifest.defaults.clone() else {
            return options;
        };
        options.sampling = SamplingOptions {
            sampler: defaults.sampler,
            steps: defaults.steps,
            cfg_scale: defaults.cfg_scale,
            prompt: defaults.prompt,
            negative_prompt: defaults.negative_prompt,
            ..options.sampling
        };
        options
    }

    /// SHA-256 of `bundle.yaml`, which contains the hashes of all other files.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The memory model of `graph` or one of its variants: measured, else that of the official sizes.
    ///
    /// # Errors
    /// [`Bundle`](ErrorKind::Bundle) if there is no such graph.
    pub fn memory_of(&self, graph: &str, variant: Option<&str>) -> Result<GraphMemory> {
        let listed = self.graph(graph)?;
        let of = |name: &str| self.memory.graphs.get(name).copied();
        let measured = variant
            .and_then(|variant| of(&format!("{graph}.{variant}")))
            .or_else(|| of(graph));
        Ok(measured.unwrap_or_else(|| {
            GraphMemory::unmeasured(listed.kind, listed.scale, self.graph_bytes(listed))
        }))
    }

    /// The name of the one graph of `kind`.
    ///
    /// # Errors
    /// [`Bundle`](ErrorKind::Bundle) if there is none.
    pub fn graph_of(&self, kind: GraphKind) -> Result<&str> {
        let found = self
            .manifest
            .graphs
            .iter()
            .find(|(_, graph)| graph.kind == kind);
        found.map(|(name, _)| name.as_str()).ok_or_else(|| {
            Error::bundle(format!(
                "{}: the bundle has no graph of kind {kind:?}",
                self.dir.display()
            ))
        })
    }

    /// The stage-1 network of `task`: its graph's name and its requirements.
    ///
    /// # Errors
    /// [`Option`](ErrorKind::Option) if the bundle does not support the task, naming those it does.
    pub fn cleaner(&self, task: &str) -> Result<(&str, &Graph, CleanerSpec)> {
        let Some(entry) = self.manifest.tasks.get(task) else {
            let known: Vec<&str> = self.manifest.tasks.keys().map(String::as_str).collect();
            return Err(Error::option(format!(
                "task `{task}`: this bundle serves {}",
                known.join(", ")
            )));
        };
        let graph = self.graph(&entry.cleaner)?;
        let spec = CleanerSpec {
            multiple: graph.multiple,
            scale: graph.scale as usize,
            enlarge_first: graph.architecture == "swinir",
        };
        Ok((&entry.cleaner, graph, spec))
    }

    fn graph(&self, name: &str) -> Result<&Graph> {
        let found = self.manifest.graphs.get(name);
        found.ok_or_else(|| {
            Error::bundle(format!("`{name}` is named but not listed under `graphs`"))
        })
    }

    /// The precomputed embedding of `prompt`, if there is one.
    ///
    /// # Errors
    /// [`Bundle`](ErrorKind::Bundle) if its file is damaged.
    pub fn context(&self, prompt: &str) -> Result<Option<Context>> {
        let Some(contexts) = &self.manifest.contexts else {
            return Ok(None);
        };
        let Some(entry) = contexts.prompts.iter().find(|entry| entry.prompt == prompt) else {
            return Ok(None);
        };
        let path = self.dir.join(&contexts.file);
        read_context(&path, &entry.tensor, (contexts.tokens, contexts.width))
            .map(Some)
            .map_err(|e| e.at(path.display()))
    }

    /// The tokenizer's file, if the bundle has one.
    pub fn tokenizer(&self) -> Option<PathBuf> {
        let file = self.manifest.tokenizer.as_ref();
        file.map(|file| self.dir.join(&file.file))
    }

    /// Every file that the manifest lists, with its SHA-256.
    pub fn files(&self) -> BTreeMap<&str, &str> {
        let manifest = &self.manifest;
        let single = manifest
            .tokenizer
            .iter()
            .map(|file| (file.file.as_str(), file.sha256.as_str()));
        let contexts = manifest.contexts.iter();
        let contexts = contexts.map(|file| (file.file.as_str(), file.sha256.as_str()));
        let graphs = manifest.graphs.values().flat_map(|graph| {
            let variants = graph.variants.iter().map(|variant| &variant.files);
            variants.chain([&graph.files]).flatten()
        });
        single
            .chain(contexts)
            .chain(graphs.map(|(file, sha256)| (file.as_str(), sha256.as_str())))
            .collect()
    }

    /// Verifies the SHA-256 of every listed file, and that graphs refer only to listed files. Unless `force`, a
    /// verified file is not read again while its size, modification time and inode are unchanged. `cache` is the folder
    /// of these records; `None` keeps none.
    ///
    /// # Errors
    /// [`Bundle`](ErrorKind::Bundle), naming the file, the hash expected and the one found.
    pub fn verify(
        &self,
        cache: Option<&Path>,
        force: bool,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let files = self.files();
        hashes::verify(&self.dir, &files, cache, force, progress)?;
        for file in files.keys().filter(|file| file.ends_with(".onnx")) {
            let path = self.dir.join(file);
            let unreadable = |e| Error::bundle(path.display().to_string()).with_source(e);
            let locations = external::locations(&path).map_err(unreadable)?;
            if let Some(unlisted) = locations
                .iter()
                .find(|place| !files.contains_key(place.as_str()))
            {
                return Err(Error::bundle(format!(
                    "{}: takes weights from {unlisted}, which {MANIFEST} does not list; export the bundle again",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// Size in bytes of a graph with its external data.
    pub fn graph_bytes(&self, graph: &Graph) -> u64 {
        let size =
            |file: &String| std::fs::metadata(self.dir.join(file)).map_or(0, |data| data.len());
        graph.files.keys().map(size).sum()
    }

    /// The graphs in the runtime's form.
    pub fn graph_files(&self) -> Vec<GraphFile> {
        let file = |(name, graph): (&String, &Graph)| GraphFile {
            name: name.clone(),
            kind: graph.kind,
            path: self.dir.join(&graph.file),
            segments: graph.segments.as_ref().map(|file| self.dir.join(file)),
            bytes: self.graph_bytes(graph),
            variants: graph
                .variants
                .iter()
                .filter_map(|variant| self.variant_file(variant))
                .collect(),
            hashes: graph.files.values().cloned().collect(),
        };
        self.manifest.graphs.iter().map(file).collect()
    }

    /// A variant in the runtime's form; `None` for an unknown provider.
    fn variant_file(&self, variant: &Variant) -> Option<VariantFile> {
        Some(VariantFile {
            name: variant.name.clone(),
            provider: ProviderKind::by_name(&variant.provider)?,
            path: self.dir.join(&variant.file),
            role: variant.role,
            int8: variant.precision == manifest::INT8,
            shares_prefix: variant.shares_prefix,
            features: variant.features.clone(),
            values_per_pixel: variant.values_per_pixel,
        })
    }

    /// The segment plan of `graph`, if it has one.
    ///
    /// # Errors
    /// [`Bundle`](ErrorKind::Bundle) if its file is damaged.
    pub fn segments(&self, graph: &str) -> Result<Option<Arc<SegmentPlan>>> {
        let (Some(read), Some(file)) = (self.segments.get(graph), &self.graph(graph)?.segments)
        else {
            return Ok(None);
        };
        if let Some(plan) = read.get() {
            return Ok(Some(Arc::clone(plan)));
        }
        let path = self.dir.join(file);
        let plan = read_segments(&path).map_err(|e| e.at(path.display()))?;
        Ok(Some(Arc::clone(read.get_or_init(|| Arc::new(plan)))))
    }

    /// Checks beyond the schema: every name that is referred to is listed.
    fn check_references(&self) -> Result<()> {
        for file in self.files().into_keys() {
            // A missing file is reported when it is needed.
            if let Ok(metadata) = std::fs::metadata(self.dir.join(file)) {
                files::expect_regular(&metadata)
                    .map_err(|e| Error::bundle(format!("{file}: {e}")))?;
            }
        }
        for (task, entry) in &self.manifest.tasks {
            let graph = self
                .graph(&entry.cleaner)
                .map_err(|e| e.at(format!("tasks.{task}.cleaner")))?;
            if graph.kind != GraphKind::Cleaner {
                return Err(Error::bundle(format!(
                    "tasks.{task}.cleaner: `{}` is no cleaner",
                    entry.cleaner
                )));
            }
            if graph.scale.fract() != 0.0 {
                return Err(Error::bundle(format!(
                    "graphs.{}.scale is {}, expected a whole number for a cleaner",
                    entry.cleaner, graph.scale
                )));
            }
        }
        for (name, graph) in &self.manifest.graphs {
            for file in [Some(&graph.file), graph.segments.as_ref()]
                .into_iter()
                .flatten()
            {
                if !graph.files.contains_key(file) {
                    return Err(Error::bundle(format!(
                        "graphs.{name}.files: no hash for {file}"
                    )));
                }
            }
            for variant in &graph.variants {
                if !variant.files.contains_key(&variant.file) {
                    return Err(Error::bundle(format!(
                        "graphs.{name}.variants: no hash for {}",
                        variant.file
                    )));
                }
            }
        }
        Ok(())
    }
}

fn read_segments(path: &Path) -> Result<SegmentPlan> {
    let damaged = |e: &dyn std::fmt::Display| Error::bundle(format!("damaged segments: {e}"));
    let bytes = files::read_file(path, MAX_TENSORS).map_err(|e| damaged(&e))?;
    let text = crate::tensor::safetensors_text(&bytes, "plan").map_err(|e| damaged(&e))?;
    SegmentPlan::parse(&text)
}

fn read_context(path: &Path, tensor: &str, shape: (usize, usize)) -> Result<Context> {
    let damaged =
        |e: &dyn std::fmt::Display| Error::new(ErrorKind::Bundle, format!("damaged contexts: {e}"));
    let bytes = files::read_file(path, MAX_TENSORS).map_err(|e| damaged(&e))?;
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e))?;
    let view = file.tensor(tensor).map_err(|e| damaged(&e))?;
    let values = crate::tensor::f32_from_safetensor(&view).map_err(|e| e.at(tensor))?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err(damaged(&format!("tensor `{tensor}` is not finite")));
    }
    Context::from_shape_vec(shape, values).map_err(|_| {
        damaged(&format!(
            "tensor `{tensor}` has shape {:?}, expected {shape:?}",
            view.shape()
        ))
    })
}
