//! `diffbir doctor`: what is found, what each graph would run on, and why not on something else.

mod text;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cli::args::Doctor;
use crate::cli::report::Reporter;
use crate::cli::setup;
use crate::error::Result;
use crate::runtime::{self, Loaded, Provider, ProviderKind, RuntimeOptions, Session, library};

/// Runs the command. A missing runtime, and a provider or graph that does not load, is an error after all has been said.
pub fn run(args: &Doctor, reporter: &Reporter) -> Result<()> {
    let config = setup::without_bundle(&args.common)?;
    let options = config.runtime.options()?;
    let candidates = library::candidates(options.library.as_deref());
    let mut notes = Vec::new();
    let loaded = setup::ensure_runtime(&config, &mut |note| notes.push(note));
    let mut facts = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "candidates": candidates.iter().map(|c| json!({ "path": c.path, "origin": c.origin.to_string() }))
            .collect::<Vec<_>>(),
        "notes": notes,
    });
    let outcome = match loaded {
        Ok(loaded) => {
            let bundle = config.bundle.as_deref().map(Bundle::open).transpose()?;
            examine(loaded, &options, bundle.as_ref(), &mut facts, reporter)?
        }
        Err(error) => {
            facts["library"] = json!({ "error": error.to_string() });
            Err(error)
        }
    };
    if args.json {
        println!("{facts:#}")
    } else {
        print!("{}", text::describe(&facts))
    }
    outcome
}

/// Notes what there is besides the library, and returns what is wrong with it.
fn examine(
    loaded: &Loaded,
    options: &RuntimeOptions,
    bundle: Option<&Bundle>,
    facts: &mut Value,
    reporter: &Reporter,
) -> Result<Result<()>> {
    facts["library"] = json!({
        "path": loaded.candidate.path, "origin": loaded.candidate.origin.to_string(), "version": loaded.version,
        "build": loaded.build
    });
    facts["providers"] = providers(options)?;
    // A plugin's devices are there once it was tried.
    facts["devices"] = json!(library::devices(None)?);
    let mut outcome = runtime::check_providers(options).map(drop);
    if let Some(bundle) = bundle {
        facts["bundle"] = json!(bundle.dir());
        outcome = runtime::check(&bundle.graph_files(), options).map(drop);
        // Where a provider is missing, every graph would say the same.
        if outcome.is_ok() {
            let (graphs, loads) = graphs(bundle, options, reporter);
            facts["graphs"] = graphs;
            outcome = loads;
        }
    }
    Ok(outcome)
}

/// The configured providers, then all others, whether each loads, and what it needs if not.
fn providers(options: &RuntimeOptions) -> Result<Value> {
    let mut all: Vec<(Provider, bool)> = Vec::new();
    for provider in options.all_providers() {
        if !all.iter().any(|(known, _)| known == provider) {
            all.push((provider.clone(), true));
        }
    }
    for kind in ProviderKind::ALL {
        if !all.iter().any(|(known, _)| known.kind() == kind) {
            all.push((Provider::new(kind), false));
        }
    }
    let entry = |(provider, configured): &(Provider, bool)| -> Result<Value> {
        let kind = provider.kind();
        let mut entry = json!({
            "provider": kind, "configured": configured, "optional": provider.optional, "loads": true
        });
        if let Err(reason) = runtime::probe(provider, options)? {
            entry["loads"] = json!(false);
            entry["reason"] = json!(reason);
            entry["remedy"] = json!(kind.remedy());
        }
        Ok(entry)
    };
    Ok(Value::Array(all.iter().map(entry).collect::<Result<_>>()?))
}

/// Loads every graph of the bundle in turn and tells how many nodes each provider runs, and how many copies between
/// devices stand between them.
fn graphs(bundle: &Bundle, options: &RuntimeOptions, reporter: &Reporter) -> (Value, Result<()>) {
    let mut list = Vec::new();
    let mut outcome = Ok(());
    for graph in bundle.graph_files() {
        if graph.bytes > 1 << 28 {
            reporter.note(&format!(
                "loading {} ({:.1} GB)",
                graph.name,
                graph.bytes as f64 / 1e9
            ));
        }
        match Session::load_counting_copies(&graph, options) {
            Ok((session, copies)) => list.push(json!({
                "graph": graph.name, "provider": session.provider(), "nodes": session.nodes(), "copies": copies
            })),
            Err(error) => {
                list.push(json!({ "graph": graph.name, "error": error.to_string() }));
                outcome = Err(error);
            }
        }
    }
    (Value::Array(list), outcome)
}
