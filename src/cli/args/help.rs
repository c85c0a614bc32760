//! Help: defaults and ranges from the declarations of the options, examples, and hints for flags that do not exist.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args, CommandFactory, FromArgMatches};
use serde_json::Value;

use super::Cli;
use crate::cli::say;
use crate::config::{Config, InputLayer, Key, OutputLayer, keys};
use crate::options::{GuidanceLayer, RestoreLayer, SamplingLayer, SizeLayer, TilingLayer};
use crate::runtime::RuntimeLayer;

/// Text after the program's help.
pub(super) const ENVIRONMENT: &str = "\
Environment: DIFFBIR_BUNDLE folder of the bundle; DIFFBIR_CACHE the program's cache; ORT_DYLIB_PATH libonnxruntime; TMPDIR \
scratch files of large pictures; NO_COLOR no colours; TERM=dumb plain lines.\n\n\
Exit codes: 0 all done; 1 some inputs failed (each is named, the rest is done), or standard output cannot be written; 2 usage; 3 configuration or bundle not valid; 4 \
ONNX Runtime or a provider unavailable; 5 not enough memory; 70 internal; 130 interrupted.";

/// Text after the help of `restore`.
pub(super) const RESTORE: &str = "\
Examples:
  diffbir restore lq.png -o restored.png --bundle onnx/diffbir-v2.1
  diffbir restore photos -o restored --recursive --upscale 2 --skip-existing
  diffbir restore lq.png -o restored.png --config configs/cuda.yaml --steps 20 --seed 7
  diffbir restore frames -o restored --frames --memory-budget 8GiB
  diffbir restore clip.mp4 -o restored.mp4
  diffbir restore huge.tif -o restored.tif --dry-run
  curl -s https://example.org/lq.jpg | diffbir restore - -o - --format jpeg > restored.jpg";

/// Keys with defaults from the bundle.
const OF_BUNDLE: [&str; 5] = ["sampler", "steps", "cfg_scale", "prompt", "negative_prompt"];

/// Parses the process's arguments. Prints help and usage errors itself, and then returns the exit code.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, u8> {
    let parsed = command().try_get_matches_from(args);
    let parsed = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        let printed = match error.kind() {
            ErrorKind::ValueValidation => {
                say::error(&in_our_words(error.render().to_string()));
                Ok(())
            }
            // It quotes what was typed.
            _ if error.use_stderr() => {
                say::error(&error.render().to_string());
                Ok(())
            }
            _ => error.print(),
        };
        if let Err(e) = printed {
            say::error(&format!("error: {}", say::unwritable(e)));
            return 1;
        }
        if let Some(hint) = hint(&error) {
            say::error(&hint);
        }
        u8::try_from(error.exit_code()).unwrap_or(2)
    })
}

/// The program's definition, with every default in its help.
pub fn command() -> clap::Command {
    let keys = keys_of_flags();
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    Cli::command().mut_subcommands(|command| {
        command
            .args_override_self(true)
            .mut_args(|arg| with_default(arg, &keys, &defaults))
    })
}

/// The keys that have a flag, by the flag's id.
pub fn keys_of_flags() -> BTreeMap<String, &'static Key> {
    let sections: [(&str, clap::Command); 8] = [
        ("restore", flags_of::<RestoreLayer>()),
        ("size", flags_of::<SizeLayer>()),
        ("sampling", flags_of::<SamplingLayer>()),
        ("guidance", flags_of::<GuidanceLayer>()),
        ("tiling", flags_of::<TilingLayer>()),
        ("runtime", flags_of::<RuntimeLayer>()),
        ("input", flags_of::<InputLayer>()),
        ("output", flags_of::<OutputLayer>()),
    ];
    let mut found = BTreeMap::new();
    for (section, command) in sections {
        for arg in command.get_arguments() {
            let id = arg.get_id().as_str();
            let key = keys().find(|key| key.section == section && key.name == id);
            found.extend(key.map(|key| (id.to_owned(), key)));
        }
    }
    found
}

fn flags_of<T: Args>() -> clap::Command {
    T::augment_args(clap::Command::new("flags"))
}

/// `arg` with its range and its default in the help.
fn with_default(arg: Arg, keys: &BTreeMap<String, &'static Key>, defaults: &Value) -> Arg {
    // Ids of a command's own flags may equal keys without a flag.
    let Some(key) = keys.get(arg.get_id().as_str()) else {
        return arg;
    };
    let Some(help) = arg.get_help().map(ToString::to_string) else {
        return arg;
    };
    let mut notes = Vec::new();
    if let Some((low, high)) = key.range {
        notes.push(format!("[{low} to {high}]"));
    }
    // A switch is off by default, also one that turns its key off.
    if arg.get_num_args() != Some(0.into()) {
        notes.extend(default_of(key, defaults).map(|default| format!("[default: {default}]")));
    }
    arg.help(
        [vec![help.trim_end_matches('.').to_owned()], notes]
            .concat()
            .join(" "),
    )
}

/// The default of a key as text; `None` if it is unset by default, which its documentation explains.
pub fn default_of(key: &Key, defaults: &Value) -> Option<String> {
    if OF_BUNDLE.contains(&key.name) {
        return Some("the bundle's".to_owned());
    }
    match &defaults[key.section][key.name] {
        Value::Null => None,
        Value::String(text) if text.is_empty() => Some("empty".to_owned()),
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Rust's words for numbers that cannot be read, and ours.
const NUMBERS: &[(&str, &str)] = &[
    ("invalid digit found in string", "expected a whole number"),
    (
        "cannot parse integer from empty string",
        "expected a whole number",
    ),
    (
        "number too large to fit in target type",
        "the number is too large",
    ),
    (
        "number too small to fit in target type",
        "the number is too small",
    ),
    ("invalid float literal", "expected a number"),
    ("cannot parse float from empty string", "expected a number"),
];

/// A message about a flag's value, without Rust's words.
fn in_our_words(message: String) -> String {
    let replace = |text: String, (rust, plain): &(&str, &str)| text.replace(rust, plain);
    NUMBERS.iter().fold(message, replace)
}

/// A hint for a flag that the command does not have.
fn hint(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = given
        .trim_start_matches('-')
        .split('=')
        .next()
        .unwrap_or_default();
    let command = Cli::command();
    let has = |command: &&clap::Command| {
        command
            .get_arguments()
            .any(|arg| arg.get_long() == Some(name))
    };
    let commands: Vec<&str> = command
        .get_subcommands()
        .filter(has)
        .map(clap::Command::get_name)
        .collect();
    let key = name.replace('-', "_");
    let key = keys().find(|known| known.name == key || known.path() == key);
    let by_key = key.filter(|key| !keys_of_flags().contains_key(key.name));
    let mut hints = Vec::new();
    if !commands.is_empty() {
        let commands = commands.join("`, `diffbir ");
        hints.push(format!("--{name} is an option of `diffbir {commands}`"));
    }
    hints.extend(by_key.map(|key| {
        let path = key.path();
        format!("{path} is a configuration key: give --set {path}=VALUE")
    }));
    (!hints.is_empty()).then(|| format!("note: {}", hints.join("; ")))
}
