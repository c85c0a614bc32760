//! Package folders of the active Python environment.

use std::path::{Path, PathBuf};

/// `site-packages` of `VIRTUAL_ENV` and `CONDA_PREFIX`, if set. Relative paths are ignored: they would lead into the
/// working folder.
pub(super) fn packages() -> Vec<PathBuf> {
    let prefixes = ["VIRTUAL_ENV", "CONDA_PREFIX"];
    let set = prefixes.into_iter().filter_map(std::env::var_os);
    set.filter(|prefix| Path::new(prefix).is_absolute())
        .flat_map(|prefix| site_packages(Path::new(&prefix)))
        .collect()
}

/// `PREFIX/lib/python3.*/site-packages`, in descending order of name.
fn site_packages(prefix: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(prefix.join("lib"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"))
        .map(|entry| entry.path().join("site-packages"))
        .collect();
    found.sort();
    found.reverse();
    found
}
