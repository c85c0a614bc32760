//! The table of options in `docs/options.md`, from the declarations.

use std::fmt::Write;

use super::help::{command, default_of, keys_of_flags};
use crate::config::{Config, Key, keys};

/// Markdown: for each section of the configuration a table of its keys with flags, defaults, ranges and documentation.
pub fn option_table() -> String {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let mut text = String::new();
    let mut section = "";
    for key in keys() {
        if key.section != section {
            section = key.section;
            let _ = write!(
                text,
                "\n## `{section}`\n\n| key | flag | default | range | |\n|---|---|---|---|---|\n"
            );
        }
        let default =
            default_of(key, &defaults).map_or(String::new(), |default| format!("`{default}`"));
        let range = key
            .range
            .map_or(String::new(), |(low, high)| format!("{low} to {high}"));
        let doc: Vec<&str> = key.doc.iter().map(|line| line.trim()).collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {default} | {range} | {} |",
            key.name,
            flag(key),
            doc.join(" ").replace('|', "\\|")
        );
    }
    text
}

/// The flag of `key` as typed, if it has one.
fn flag(key: &Key) -> String {
    let flags = keys_of_flags();
    let is_key = |id: &str| {
        flags
            .get(id)
            .is_some_and(|known| known.path() == key.path())
    };
    let command = command();
    let restore = command.find_subcommand("restore");
    let mut args = restore.into_iter().flat_map(clap::Command::get_arguments);
    let long = args
        .find(|arg| is_key(arg.get_id().as_str()))
        .and_then(clap::Arg::get_long);
    long.map_or(String::new(), |long| format!("`--{long}`"))
}
