//! Checks the keys of a layer; an unknown one is refused with the most similar known key.

use serde_yaml::{Mapping, Value};

use super::keys;
use crate::error::{Error, Result};

/// Renamed keys, and their current names.
const RENAMED: &[(&str, &str)] = &[
    ("sampling.fidelity", "restore.fidelity"),
    ("output.keep_grey", "output.grey"),
];

/// Refuses unknown keys; renames old ones to their current names.
pub(super) fn check(mut layer: Mapping) -> Result<Mapping> {
    for (old, new) in RENAMED {
        rename(&mut layer, old, new)?;
    }
    for (name, section) in &layer {
        let name = text_of(name)?;
        if name == "bundle" {
            continue;
        }
        let known: Vec<&str> = keys()
            .filter(|key| key.section == name)
            .map(|key| key.name)
            .collect();
        if known.is_empty() {
            return Err(unknown(&name));
        }
        let Value::Mapping(section) = section else {
            return Err(Error::option(format!(
                "{name}: expected a mapping with keys such as {}",
                known.join(", ")
            )));
        };
        for key in section.keys() {
            let key = text_of(key)?;
            if !known.contains(&key.as_str()) {
                return Err(unknown(&format!("{name}.{key}")));
            }
        }
    }
    Ok(layer)
}

fn text_of(key: &Value) -> Result<String> {
    match key {
        Value::String(text) => Ok(text.clone()),
        other => Err(Error::option(format!("a key is {other:?}, expected text"))),
    }
}

/// Moves the value of the key `old` to `new`.
fn rename(layer: &mut Mapping, old: &str, new: &str) -> Result<()> {
    let parts = old.split_once('.').zip(new.split_once('.'));
    let Some(((section, name), (new_section, new_name))) = parts else {
        return Ok(());
    };
    let value = layer.get_mut(section).and_then(Value::as_mapping_mut);
    let Some(value) = value.and_then(|section| section.remove(name)) else {
        return Ok(());
    };
    let there = layer
        .entry(new_section.into())
        .or_insert_with(|| Value::Mapping(Mapping::new()));
    match there {
        Value::Mapping(there) if there.contains_key(new_name) => Err(Error::option(format!(
            "{old} is the old name of {new}: give one of them"
        ))),
        Value::Mapping(there) => {
            there.insert(new_name.into(), value);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The error for a key that does not exist.
pub(super) fn unknown(path: &str) -> Error {
    let known: Vec<String> = keys().map(|key| key.path()).collect();
    let likeness = |known: &&String| {
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        strsim::jaro_winkler(path, known).max(strsim::jaro_winkler(&last(path), &last(known)))
    };
    let nearest = known
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    Error::option(format!(
        "unknown key `{path}`: did you mean `{}`? `diffbir config` lists all keys",
        nearest.map_or("", String::as_str)
    ))
}
