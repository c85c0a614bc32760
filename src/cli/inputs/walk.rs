//! Finds the input files named by arguments: files, folders and patterns.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::imageio::is_picture_name;
use crate::service::ledger::Known;

/// A picture, and its folder relative to the named one.
#[derive(Debug)]
pub(super) struct Found {
    pub path: PathBuf,
    pub folder: PathBuf,
}

/// Searches folders and patterns. Hidden files are skipped as shells do, including macOS's `._NAME`.
pub(super) struct Walk<'a> {
    /// Whether to search recursively.
    pub recursive: bool,
    /// Canonical paths of this run's output folders: not searched unless named.
    pub written: Vec<PathBuf>,
    /// The results of earlier runs.
    pub known: &'a Known,
    /// The found pictures.
    pub found: Vec<Found>,
    /// Number of skipped results of earlier runs.
    pub results: usize,
    /// Number of skipped pipes, sockets and devices.
    pub special: usize,
    /// Canonical paths of the searched folders.
    searched: HashSet<PathBuf>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(recursive: bool, written: &[&Path], known: &'a Known) -> Self {
        let real = |path: &&Path| path.canonicalize().ok();
        Walk {
            recursive,
            written: written.iter().filter_map(real).collect(),
            known,
            found: Vec::new(),
            results: 0,
            special: 0,
            searched: HashSet::new(),
        }
    }

    /// Adds the files that `input` names.
    pub(super) fn add(&mut self, input: &str) -> Result<()> {
        let path = Path::new(input);
        if path.is_dir() {
            self.search(path, Path::new(""))
        } else if !path.exists() && input.contains(['*', '?', '[']) {
            let options = glob::MatchOptions {
                require_literal_leading_dot: true,
                ..glob::MatchOptions::new()
            };
            let paths = glob::glob_with(input, options)
                .map_err(|e| Error::option(format!("`{input}` is no pattern")).with_source(e))?;
            for path in paths.filter_map(std::result::Result::ok) {
                self.file(path, Path::new(""));
            }
            Ok(())
        } else {
            // A missing file is reported as a failed picture, so that the others are restored.
            self.found.push(Found {
                path: path.to_owned(),
                folder: PathBuf::new(),
            });
            Ok(())
        }
    }

    fn search(&mut self, dir: &Path, folder: &Path) -> Result<()> {
        let unreadable = |e| Error::input(format!("cannot list {}", dir.display())).with_source(e);
        if !self
            .searched
            .insert(dir.canonicalize().map_err(unreadable)?)
        {
            return Ok(());
        }
        let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)
            .map_err(unreadable)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()
            .map_err(unreadable)?;
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap_or_default();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if !path.is_dir() {
                if is_picture_name(&path) {
                    self.file(path, folder);
                }
            } else if self.recursive && !self.is_written(&path) {
                self.search(&path, &folder.join(name))?;
            }
        }
        Ok(())
    }

    fn is_written(&self, dir: &Path) -> bool {
        dir.canonicalize()
            .is_ok_and(|dir| self.written.contains(&dir))
    }

    /// Adds a file found by a folder or a pattern. A dangling link counts as unreadable.
    fn file(&mut self, path: PathBuf, folder: &Path) {
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(metadata) if !metadata.is_file() => self.special += 1,
            Ok(_) if self.known.contains(&path) => self.results += 1,
            _ => self.found.push(Found {
                path,
                folder: folder.to_owned(),
            }),
        }
    }
}
