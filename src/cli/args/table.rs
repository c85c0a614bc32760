//! The table of options in `docs/options.md`, from the declarations.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::help::{command, default_of, keys_of_flags};
use crate::config::{Config, keys};

/// Generates Markdown: per configuration section a table of keys with flags, defaults, ranges and documentation.
pub fn option_table() -> String {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let flags = flags();
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
            flags
                .get(&key.path())
                .map_or(String::new(), |flag| format!("`{flag}`")),
            doc.join(" ").replace('|', "\\|")
        );
    }
    text
}

/// The flags of `restore` that set a configuration key: the key's path and the flag as typed.
pub fn flags() -> BTreeMap<String, String> {
    let keys = keys_of_flags();
    let command = command();
    let restore = command.find_subcommand("restore");
    let args = restore.into_iter().flat_map(clap::Command::get_arguments);
    args.filter_map(|arg| {
        let key = keys.get(arg.get_id().as_str())?;
        Some((key.path(), format!("--{}", arg.get_long()?)))
    })
    .collect()
}
