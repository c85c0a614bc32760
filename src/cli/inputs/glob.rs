//! Patterns such as `photos/*.jpg`, expanded here where the shell did not. Names that are no UTF-8 match as well: each of
//! their other bytes counts as one character.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use glob::Pattern;

use crate::error::{Error, Result, Shown};

/// Stands for the bytes that are no UTF-8: the last private characters of Unicode.
const BYTES: u32 = 0x0010_FF00;

/// Whether `path` has the characters of a pattern.
pub(super) fn is_pattern(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().any(|byte| b"*?[".contains(byte))
}

/// The paths that match `pattern`, sorted. `**` stands for any folders.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): not a pattern.
pub(super) fn matches(pattern: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        // A folder may be called `in[1]`.
        let is_there = |name| {
            found
                .iter()
                .any(|folder| folder.join(name).symlink_metadata().is_ok())
        };
        let name = match part {
            Component::Normal(name) if is_pattern(Path::new(name)) && !is_there(name) => name,
            plain => {
                found.iter_mut().for_each(|path| path.push(plain));
                continue;
            }
        };
        if name == "**" {
            found = found.iter().flat_map(|folder| folders(folder)).collect();
            continue;
        }
        let compiled = Pattern::new(&text_of(name)).map_err(|e| {
            Error::option(format!("`{}` is no pattern", Shown(pattern))).with_source(e)
        })?;
        // As in shells; `*.*` would match `.a`, whose dot is literal.
        let is_shown = |path: &Path| is_hidden(Path::new(name)) || !is_hidden(path);
        let fits = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default();
            is_shown(path) && compiled.matches(&text_of(name))
        };
        found = found
            .iter()
            .flat_map(|folder| entries(folder))
            .filter(fits)
            .collect();
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    Ok(found)
}

/// Entries of a folder, sorted; of one that cannot be read, none, as in shells.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let here = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let names = std::fs::read_dir(here).into_iter().flatten().flatten();
    let mut entries: Vec<PathBuf> = names.map(|entry| folder.join(entry.file_name())).collect();
    entries.sort();
    entries
}

/// `folder` and the folders below it, without hidden ones and links.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = all.get(next).cloned() {
        let is_folder = |path: &PathBuf| path.is_dir() && !path.is_symlink() && !is_hidden(path);
        all.extend(entries(&folder).into_iter().filter(is_folder));
        next += 1;
    }
    all
}

/// Whether a file or folder is hidden.
pub(super) fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b".")
}

fn text_of(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid().iter();
        text.extend(invalid.filter_map(|byte| char::from_u32(BYTES + u32::from(*byte))));
    }
    text
}
