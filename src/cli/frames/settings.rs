//! Everything that decides the results of a sequence, as it is written down beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bundle;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::runtime::Provider;
use crate::service::Service;

/// What decides the results of `sequence`: nothing that only decides about memory, time or place.
pub fn of(
    service: &Service,
    options: &Options,
    sequence: PathBuf,
    replay: Option<&Path>,
) -> Result<Value> {
    let internal =
        |e: serde_json::Error| Error::internal("the settings cannot be written").with_source(e);
    let mut settings = serde_json::to_value(options.without_memory()).map_err(internal)?;
    let bundle = service.engine.bundle().hash();
    let (input, output) = (&service.config.input, &service.config.output);
    settings["engine"] = json!(env!("CARGO_PKG_VERSION"));
    settings["bundle"] = json!(bundle);
    settings["sequence"] = json!(sequence.to_string_lossy());
    settings["noise"] = json!(noise(replay)?);
    settings["runtime"] = providers(service)?;
    settings["input"] = json!({ "profiles": input.profiles });
    settings["output"] = json!({
        "format": output.format, "quality": output.quality, "depth": output.depth, "keep_grey": output.keep_grey,
        "metadata": output.metadata,
    });
    // As they are read again: numbers may lose their last digit on the way.
    serde_json::from_str(&settings.to_string()).map_err(internal)
}

/// The seed's, or that of a file, by its contents.
fn noise(replay: Option<&Path>) -> Result<String> {
    let Some(path) = replay else {
        return Ok("seeded".to_owned());
    };
    let unreadable = |e| Error::option(format!("--replay-noise {}", path.display())).with_source(e);
    bundle::sha256_file(path).map_err(unreadable)
}

/// The names of the providers; their threads, devices and limits may change on the way.
fn providers(service: &Service) -> Result<Value> {
    let runtime = &service.config.runtime;
    let names = |providers: &[Provider]| -> Vec<String> {
        let names = providers.iter().map(|provider| provider.kind().to_string());
        names.collect()
    };
    let graphs = runtime.graphs.iter();
    let graphs: BTreeMap<_, _> = graphs
        .map(|(graph, own)| (graph, names(&own.providers)))
        .collect();
    Ok(json!({ "providers": names(&runtime.providers), "graphs": graphs }))
}

/// The first thing in which `now` differs from `then`, in words.
pub fn difference(then: &Value, now: &Value) -> Option<String> {
    let absent = &Value::Null;
    let (Value::Object(old), Value::Object(new)) = (then, now) else {
        return (then != now).then(|| format!(" was {then} and is {now}"));
    };
    old.keys().chain(new.keys()).find_map(|key| {
        let value = |of: &serde_json::Map<_, _>| of.get(key).unwrap_or(absent).clone();
        let below = difference(&value(old), &value(new))?;
        let dot = if below.starts_with(' ') { "" } else { "." };
        Some(format!("{key}{dot}{below}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let then = json!({ "a": 1, "b": { "c": 2, "d": null } });
        assert_eq!(difference(&then, &then), None);
        for (now, said) in [
            (json!({ "a": 1, "b": { "c": 3 } }), "b.c was 2 and is 3"),
            (
                json!({ "a": 1, "b": 2 }),
                "b was {\"c\":2,\"d\":null} and is 2",
            ),
            (
                json!({ "a": 1, "b": { "c": 2, "e": 1 } }),
                "b.e was null and is 1",
            ),
        ] {
            assert_eq!(difference(&then, &now).as_deref(), Some(said));
        }
    }
}
