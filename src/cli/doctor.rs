//! `diffbir doctor`: what is found, what each graph would run on, and why not on something else.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cli::args::Doctor;
use crate::cli::report::Reporter;
use crate::cli::setup;
use crate::config::Config;
use crate::error::Result;
use crate::runtime::{Provider, ProviderKind, RuntimeOptions, Session, library, probe};

/// Runs the command. A missing runtime or graph that does not load is an error after all has been said.
pub fn run(args: &Doctor, reporter: &Reporter) -> Result<()> {
    let config = setup::without_bundle(&args.common)?;
    let candidates = library::candidates(config.runtime.library_path().as_deref());
    let mut notes = Vec::new();
    let loaded = setup::ensure_runtime(&config, &mut |note| notes.push(note));
    let mut facts = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "candidates": candidates.iter().map(|c| json!({ "path": c.path, "origin": c.origin.to_string() }))
            .collect::<Vec<_>>(),
        "notes": notes,
    });
    let mut outcome = Ok(());
    match &loaded {
        Ok(loaded) => {
            facts["library"] = json!({
                "path": loaded.candidate.path, "origin": loaded.candidate.origin.to_string(), "version": loaded.version,
                "build": loaded.build
            });
            facts["devices"] = json!(library::devices(None)?);
            facts["providers"] = providers(&config)?;
            if let Some(dir) = &config.bundle {
                let (graphs, result) =
                    graphs(&Bundle::open(dir)?, &config.runtime.options()?, reporter);
                facts["graphs"] = graphs;
                outcome = result;
            }
        }
        Err(error) => facts["library"] = json!({ "error": error.to_string() }),
    }
    if args.json {
        println!("{facts:#}")
    } else {
        print!("{}", describe(&facts))
    }
    loaded.and(outcome)
}

/// Every provider, whether it loads, and what it needs if not.
fn providers(config: &Config) -> Result<Value> {
    let options = config.runtime.options()?;
    let mut list = Vec::new();
    for kind in [
        ProviderKind::Cpu,
        ProviderKind::Cuda,
        ProviderKind::Tensorrt,
    ] {
        let configured = options
            .providers
            .iter()
            .find(|provider| provider.kind == kind);
        let provider = configured.cloned().unwrap_or_else(|| Provider::new(kind));
        let mut entry = json!({ "provider": kind.to_string(), "configured": configured.is_some() });
        match probe(&provider, &options)? {
            Ok(()) => entry["loads"] = json!(true),
            Err(reason) => {
                entry["loads"] = json!(false);
                entry["reason"] = json!(reason);
                entry["remedy"] = json!(kind.remedy());
            }
        }
        list.push(entry);
    }
    Ok(Value::Array(list))
}

/// Loads every graph of the bundle in turn and tells how many nodes each provider runs.
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
        match Session::load(&graph, options) {
            Ok(session) => list.push(json!({ "graph": graph.name, "nodes": session.nodes() })),
            Err(error) => {
                list.push(json!({ "graph": graph.name, "error": error.to_string() }));
                outcome = Err(error);
            }
        }
    }
    (Value::Array(list), outcome)
}

fn describe(facts: &Value) -> String {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let list = |key: &str| facts[key].as_array().cloned().unwrap_or_default();
    let mut lines = vec![
        format!("diffbir {}", text(&facts["version"])),
        "library".to_owned(),
    ];
    for candidate in list("candidates") {
        lines.push(format!(
            "  looked at {} ({})",
            text(&candidate["path"]),
            text(&candidate["origin"])
        ));
    }
    lines.extend(list("notes").iter().map(|note| format!("  {}", text(note))));
    match facts["library"].get("error") {
        Some(error) => lines.push(format!("  none: {}", text(error))),
        None => lines.push(format!(
            "  in use: ONNX Runtime {}, {}\n  {}",
            text(&facts["library"]["version"]),
            text(&facts["library"]["path"]),
            text(&facts["library"]["build"])
        )),
    }
    lines.push("devices".to_owned());
    for device in list("devices") {
        let fields = ["kind", "vendor", "provider"].map(|key| text(&device[key]));
        lines.push(format!("  {} {} for {}", fields[0], fields[1], fields[2]));
    }
    lines.push("providers".to_owned());
    for entry in list("providers") {
        let state = match entry["loads"].as_bool() {
            Some(true) => "loads".to_owned(),
            _ => format!(
                "does not load: {}. {}",
                text(&entry["reason"]),
                text(&entry["remedy"])
            ),
        };
        let mark = if entry["configured"].as_bool() == Some(true) {
            "*"
        } else {
            " "
        };
        lines.push(format!(" {mark} {:<9} {state}", text(&entry["provider"])));
    }
    lines.push("   (* in the configuration)".to_owned());
    let graphs = list("graphs");
    if graphs.is_empty() {
        lines.push("graphs: give --bundle to see what each would run on".to_owned());
    } else {
        lines.push("graphs (nodes per provider)".to_owned());
    }
    for entry in graphs {
        let state = entry
            .get("error")
            .map_or_else(|| entry["nodes"].to_string(), text);
        lines.push(format!("  {:<14} {state}", text(&entry["graph"])));
    }
    lines.join("\n") + "\n"
}
