//! What `doctor` prints.

use serde_json::Value;

/// The facts as a person reads them.
pub(super) fn describe(facts: &Value) -> String {
    let mut lines = vec![format!("diffbir {}", text(&facts["version"]))];
    lines.extend(library(facts));
    lines.push("providers".to_owned());
    lines.extend(list(facts, "providers").iter().map(provider));
    lines.push("   (* in the configuration)".to_owned());
    lines.push("devices".to_owned());
    for device in list(facts, "devices") {
        let fields = ["name", "vendor", "provider"].map(|key| text(&device[key]));
        lines.push(format!("  {} {} for {}", fields[0], fields[1], fields[2]));
    }
    lines.extend(graphs(facts));
    lines.join("\n") + "\n"
}

fn text(value: &Value) -> String {
    let plain = value.as_str().map(str::to_owned);
    plain.unwrap_or_else(|| value.to_string())
}

fn list(facts: &Value, key: &str) -> Vec<Value> {
    facts[key].as_array().cloned().unwrap_or_default()
}

fn library(facts: &Value) -> Vec<String> {
    let mut lines = vec!["library".to_owned()];
    for candidate in list(facts, "candidates") {
        lines.push(format!(
            "  looked at {} ({})",
            text(&candidate["path"]),
            text(&candidate["origin"])
        ));
    }
    lines.extend(
        list(facts, "notes")
            .iter()
            .map(|note| format!("  {}", text(note))),
    );
    match facts["library"].get("error") {
        Some(error) => lines.push(format!("  none: {}", text(error))),
        None => lines.push(format!(
            "  in use: ONNX Runtime {}, {}\n  {}",
            text(&facts["library"]["version"]),
            text(&facts["library"]["path"]),
            text(&facts["library"]["build"])
        )),
    }
    lines
}

fn provider(entry: &Value) -> String {
    let state = match entry["loads"].as_bool() {
        Some(true) => "loads".to_owned(),
        _ => format!(
            "does not load: {}.\n{:17}Needed: {}",
            text(&entry["reason"]),
            "",
            text(&entry["remedy"])
        ),
    };
    let (mark, optional) = match (entry["configured"].as_bool(), entry["optional"].as_bool()) {
        (Some(true), Some(true)) => ("*", "optional, "),
        (Some(true), _) => ("*", ""),
        _ => (" ", ""),
    };
    format!(" {mark} {:<13} {optional}{state}", text(&entry["provider"]))
}

fn graphs(facts: &Value) -> Vec<String> {
    let graphs = list(facts, "graphs");
    if graphs.is_empty() {
        let why = match facts.get("bundle") {
            Some(_) => "not loaded, because of what is missing above",
            None => "give --bundle to see what each would run on",
        };
        return vec![format!("graphs: {why}")];
    }
    let mut lines = vec!["graphs: nodes of each provider, and copies between devices".to_owned()];
    lines.extend(graphs.iter().map(|entry| {
        let state = match entry.get("error") {
            Some(error) => text(error),
            None => format!("{}, copies: {}", nodes(&entry["nodes"]), entry["copies"]),
        };
        format!("  {:<16} {state}", text(&entry["graph"]))
    }));
    lines
}

fn nodes(nodes: &Value) -> String {
    let counts = nodes.as_object().into_iter().flatten();
    let counts: Vec<String> = counts
        .map(|(provider, count)| format!("{provider} {count}"))
        .collect();
    counts.join(", ")
}
