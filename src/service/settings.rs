//! The settings recorded in a ledger: everything that affects a run's results.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::bundle;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::runtime::Provider;

/// All settings that affect the results of a run, without inputs and captions, and without those that affect only
/// memory, time or placement. `bundle` is the bundle's hash, `replay` the file of recorded noise.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): recorded noise that cannot be read.
pub fn of(config: &Config, bundle: &str, replay: Option<&Path>) -> Result<Value> {
    let internal =
        |e: serde_json::Error| Error::internal("the settings cannot be written").with_source(e);
    let mut settings = serde_json::to_value(config.options.without_memory()).map_err(internal)?;
    let output = &config.output;
    settings["engine"] = json!(env!("CARGO_PKG_VERSION"));
    settings["bundle"] = json!(bundle);
    settings["noise"] = json!(noise(replay)?);
    settings["runtime"] = providers(config);
    settings["input"] = json!({
        "profiles": config.input.profiles, "allow_damaged": config.input.allow_damaged,
    });
    settings["output"] = json!({
        "format": output.format, "quality": output.quality, "depth": output.depth, "grey": output.grey,
        "background": output.background, "metadata": output.metadata, "strip_metadata": output.strip_metadata,
        "strip_gps": output.strip_gps,
    });
    // Round-tripped, as when read back: floating-point numbers may change in the last digit.
    serde_json::from_str(&settings.to_string()).map_err(internal)
}

/// `seeded`, or the hash of the file of recorded noise.
fn noise(replay: Option<&Path>) -> Result<String> {
    let Some(path) = replay else {
        return Ok("seeded".to_owned());
    };
    let unreadable = |e| Error::option(format!("recorded noise {}", path.display())).with_source(e);
    bundle::sha256_file(path).map_err(unreadable)
}

/// The names of the providers; threads, devices and limits may change when a run is resumed.
fn providers(config: &Config) -> Value {
    let runtime = &config.runtime;
    let names = |providers: &[Provider]| -> Vec<String> {
        let names = providers.iter().map(|provider| provider.kind().to_string());
        names.collect()
    };
    let graphs = runtime.graphs.iter();
    let graphs = graphs.map(|(graph, own)| (graph, names(&own.providers)));
    let graphs: BTreeMap<_, _> = graphs.collect();
    json!({ "providers": names(&runtime.providers), "graphs": graphs })
}

/// The first difference between `then` and `now`, in words.
pub fn difference(then: &Value, now: &Value) -> Option<String> {
    let (Value::Object(old), Value::Object(new)) = (then, now) else {
        return (then != now).then(|| format!(" was {then} and is {now}"));
    };
    let value = |of: &Map<_, _>, key: &String| of.get(key).cloned().unwrap_or_default();
    old.keys().chain(new.keys()).find_map(|key| {
        let below = difference(&value(old, key), &value(new, key))?;
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
