//! Finds the input files named by arguments: files, folders and patterns.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};

use super::glob;
use super::left_out::LeftOut;
use crate::cli::standard;
use crate::error::{Error, Result, Shown};
use crate::imageio::is_picture_name;
use crate::service::ledger::Known;

/// A picture, and its folder relative to the named one.
#[derive(Debug)]
pub(super) struct Found {
    pub path: PathBuf,
    pub folder: PathBuf,
}

/// Searches folders and patterns. Hidden files are left out as in shells, including macOS's `._NAME`.
pub(super) struct Walk {
    /// Whether to search recursively.
    recursive: bool,
    /// Canonical paths of this run's output folders: not searched unless named.
    written: Vec<PathBuf>,
    /// The results of earlier runs, from the ledgers of the output folder and of searched folders.
    known: Vec<Known>,
    /// The found pictures.
    pub found: Vec<Found>,
    /// What was left out.
    pub left_out: LeftOut,
    /// Inputs that cannot be searched.
    pub refused: Vec<(PathBuf, Error)>,
    /// Canonical paths of the searched folders.
    searched: HashSet<PathBuf>,
    /// Links to folders, searched last: what a folder and a link lead to belongs to the folder.
    links: VecDeque<(PathBuf, PathBuf)>,
    /// Canonical paths of the named folders.
    named: Vec<PathBuf>,
}

impl Walk {
    /// A search for a run that writes into the folders `written`, whose results are `known`.
    pub(super) fn new(recursive: bool, written: &[&Path], known: Known) -> Self {
        let real = |path: &&Path| path.canonicalize().ok();
        Walk {
            recursive,
            written: written.iter().filter_map(real).collect(),
            known: vec![known],
            found: Vec::new(),
            left_out: LeftOut::default(),
            refused: Vec::new(),
            searched: HashSet::new(),
            links: VecDeque::new(),
            named: Vec::new(),
        }
    }

    /// Adds the files that `inputs` name.
    pub(super) fn all(&mut self, inputs: &[PathBuf]) -> Result<()> {
        inputs.iter().try_for_each(|input| self.add(input))?;
        while let Some((path, folder)) = self.links.pop_front() {
            let leads_back = path.canonicalize().is_ok_and(|real| {
                self.searched.contains(&real)
                    || self.named.iter().any(|named| named.starts_with(&real))
            });
            match leads_back {
                true => self.left_out.links += 1,
                false => self.search(&path, &folder),
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        if !standard::is(path) && path.is_dir() {
            self.folder(path);
        } else if glob::is_pattern(path) && path.symlink_metadata().is_err() {
            let ending = path.extension().unwrap_or_default();
            let names_its_kind = !ending.is_empty() && !glob::is_pattern(Path::new(ending));
            for path in glob::matches(path)? {
                match names_its_kind || is_picture_name(&path) || path.is_dir() {
                    true => self.file(path, Path::new("")),
                    false => self.left_out.count(&path),
                }
            }
        } else {
            // A missing file is reported as a failed picture, so that the others are restored.
            self.found.push(Found {
                path: path.to_owned(),
                folder: PathBuf::new(),
            });
        }
        Ok(())
    }

    /// Adds the pictures of a named folder. One that holds results of earlier runs alone is named for these.
    fn folder(&mut self, dir: &Path) {
        let real = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        self.named.push(real.clone());
        let (found, links, refused, known) = (
            self.found.len(),
            self.links.len(),
            self.refused.len(),
            self.known.len(),
        );
        let (left_out, searched) = (self.left_out.clone(), self.searched.clone());
        self.search(dir, Path::new(""));
        let has_results_alone =
            self.found.len() == found && self.left_out.results > left_out.results;
        if has_results_alone && !self.written.contains(&real) {
            (self.left_out, self.searched) = (left_out, searched);
            self.links.truncate(links);
            self.refused.truncate(refused);
            self.known[known..].iter_mut().for_each(Known::forget);
            self.search(dir, Path::new(""));
        }
    }

    fn search(&mut self, dir: &Path, folder: &Path) {
        if let Err(error) = self.try_search(dir, folder) {
            self.refused.push((dir.to_owned(), error));
        }
    }

    fn try_search(&mut self, dir: &Path, folder: &Path) -> Result<()> {
        let unreadable = |e| Error::input(format!("cannot list {}", Shown(dir))).with_source(e);
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
        if !self.known.iter().any(|known| known.is_of(dir)) {
            self.known.extend(Known::if_any(dir)?);
        }
        for path in entries {
            self.entry(path, folder);
        }
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, folder: &Path) {
        let name = path.file_name().unwrap_or_default();
        if glob::is_hidden(&path) {
            let is_ours = name.as_encoded_bytes().starts_with(b".diffbir-");
            self.left_out.hidden += usize::from(!is_ours);
        } else if let Some(error) = unreachable(&path) {
            self.refused.push((path, error));
        } else if !path.is_dir() {
            match is_picture_name(&path) {
                true => self.file(path, folder),
                false => self.left_out.count(&path),
            }
        } else if self.recursive && !self.is_written(&path) {
            let folder = folder.join(name);
            match path.is_symlink() {
                true => self.links.push_back((path, folder)),
                false => self.search(&path, &folder),
            }
        }
    }

    fn is_written(&self, dir: &Path) -> bool {
        dir.canonicalize()
            .is_ok_and(|dir| self.written.contains(&dir))
    }

    /// Adds a file found by a folder or a pattern. A dangling link counts as unreadable.
    fn file(&mut self, path: PathBuf, folder: &Path) {
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(metadata) if !metadata.is_file() => self.left_out.special += 1,
            Ok(_) if self.known.iter().any(|known| known.contains(&path)) => {
                self.left_out.results += 1
            }
            _ => self.found.push(Found {
                path,
                folder: folder.to_owned(),
            }),
        }
    }
}

/// Why an entry of a folder cannot be looked at, such as a path that is too long. One that vanished meanwhile is none.
fn unreachable(path: &Path) -> Option<Error> {
    let error = path.symlink_metadata().err()?;
    let gone = error.kind() == std::io::ErrorKind::NotFound;
    (!gone).then(|| Error::input("cannot be looked at").with_source(error))
}
