//! The ledger's lines.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bundle;
use crate::error::{Error, Result};
use crate::files::{read_file, to_text};

/// Its name.
const FILE: &str = ".diffbir-ledger.jsonl";

/// The version of its lines.
const FORMAT: u32 = 1;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// Settings that lines below refer to by the SHA-256 of their JSON.
    Settings {
        /// [`FORMAT`].
        format: u32,
        /// Their digest.
        digest: String,
        /// The settings.
        values: Value,
    },
    /// A run with `settings` is about to replace these results.
    Replacing {
        /// The digest.
        settings: String,
        /// Their names.
        results: BTreeSet<String>,
    },
    /// A result is finished.
    Made(Made),
}

impl Line {
    pub(super) fn settings(digest: &str, values: &Value) -> Self {
        Line::Settings {
            format: FORMAT,
            digest: digest.to_owned(),
            values: values.clone(),
        }
    }
}

/// A finished result, its input and settings.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Made {
    /// Its path below the folder of results.
    pub result: String,
    /// State of the file.
    pub bytes: Identity,
    /// State of the file that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Identity>,
    /// The picture's path below the folder of inputs.
    pub input: String,
    /// State of the input file.
    pub input_bytes: Identity,
    /// The picture's caption.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub caption: String,
    /// The digest of the settings.
    pub settings: String,
}

/// State of a file. Equal size and time mean unchanged; with another time, as after copying, the SHA-256 decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    size: u64,
    /// In nanoseconds since 1970.
    modified: u64,
    sha256: String,
}

impl Identity {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): no file, or it cannot be read.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let (size, modified) = size_and_time(path)?;
        let sha256 = bundle::sha256_file(path).map_err(failed(path))?;
        Ok(Identity {
            size,
            modified,
            sha256,
        })
    }

    /// Whether the file at `path` has these contents.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub(super) fn is_of(&self, path: &Path) -> Result<bool> {
        let (size, modified) = size_and_time(path)?;
        if size != self.size || modified == self.modified {
            return Ok(size == self.size);
        }
        Ok(bundle::sha256_file(path).map_err(failed(path))? == self.sha256)
    }
}

/// The last input, so that a clip is not hashed anew for each of its frames.
#[derive(Default)]
pub(super) struct Last(Mutex<Option<(PathBuf, Identity)>>);

impl Last {
    /// The state of the file at `path`.
    ///
    /// # Errors
    /// As [`Identity::of`].
    pub(super) fn identity(&self, path: &Path) -> Result<Identity> {
        let last = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last().clone().filter(|(known, _)| known == path);
        let now = size_and_time(path)?;
        if let Some((_, identity)) = known
            && (identity.size, identity.modified) == now
        {
            return Ok(identity);
        }
        let identity = Identity::of(path)?;
        *last() = Some((path.to_owned(), identity.clone()));
        Ok(identity)
    }

    /// As [`Identity::is_of`].
    ///
    /// # Errors
    /// As [`Identity::of`].
    pub(super) fn is_of(&self, identity: &Identity, path: &Path) -> Result<bool> {
        let (size, modified) = size_and_time(path)?;
        if size != identity.size || modified == identity.modified {
            return Ok(size == identity.size);
        }
        Ok(self.identity(path)?.sha256 == identity.sha256)
    }
}

fn size_and_time(path: &Path) -> Result<(u64, u64)> {
    let metadata = path.metadata().map_err(failed(path))?;
    if !metadata.is_file() {
        return Err(Error::input(format!("{} is no file", path.display())));
    }
    let since = metadata.modified().map_err(failed(path))?;
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanoseconds = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    Ok((metadata.len(), nanoseconds))
}

/// Last known state of a result.
#[derive(Debug)]
pub(super) enum Entry {
    /// It was finished.
    Made(Box<Made>),
    /// It was about to be replaced, with these settings.
    Replacing(String),
}

impl Entry {
    pub(super) fn settings(&self) -> &str {
        match self {
            Entry::Made(made) => &made.settings,
            Entry::Replacing(settings) => settings,
        }
    }
}

/// Contents of a ledger.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// By their digest.
    pub settings: BTreeMap<String, Value>,
    /// By their names.
    pub results: HashMap<String, Entry>,
}

/// Reads the ledger of `folder`; empty if there is none. An incomplete line of a killed run is skipped.
pub(super) fn read(folder: &Path) -> Result<Entries> {
    let path = folder.join(FILE);
    let bytes = match read_file(&path, u64::MAX) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Entries::default());
        }
        read => read.map_err(failed(&path))?,
    };
    let mut entries = Entries::default();
    let lines = bytes.split(|byte| *byte == b'\n');
    for line in lines.filter_map(|line| serde_json::from_slice(line).ok()) {
        match line {
            Line::Settings { format, .. } if format != FORMAT => {
                return Err(Error::option(format!(
                    "{} has format {format}, this version reads format {FORMAT}: choose another folder",
                    path.display()
                )));
            }
            Line::Settings { digest, values, .. } => {
                entries.settings.insert(digest, values);
            }
            Line::Replacing { settings, results } => {
                let replacing = |name| (name, Entry::Replacing(settings.clone()));
                entries.results.extend(results.into_iter().map(replacing));
            }
            Line::Made(made) => {
                let name = made.result.clone();
                entries.results.insert(name, Entry::Made(Box::new(made)));
            }
        }
    }
    Ok(entries)
}

/// Opens the ledger of `folder` to append.
pub(super) fn open(folder: &Path) -> Result<File> {
    let path = folder.join(FILE);
    let mut options = OpenOptions::new();
    let opened = options.read(true).append(true).create(true).open(&path);
    opened.map_err(failed(&path))
}

/// Appends `line` under the lock and syncs it.
pub(super) fn append(file: &mut File, folder: &Path, line: &Line) -> Result<()> {
    let text = serde_json::to_string(line)
        .map_err(|e| Error::internal("a line of the ledger cannot be written").with_source(e))?;
    let mut append = || {
        // After an incomplete line of a killed run.
        let torn = file.seek(SeekFrom::End(0))? > 0 && {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            last != *b"\n"
        };
        let start = if torn { "\n" } else { "" };
        file.write_all(format!("{start}{text}\n").as_bytes())?;
        file.sync_data()
    };
    append().map_err(failed(&folder.join(FILE)))
}

/// Locks the ledger, waiting for other runs. A file system without locks is used without locking.
pub(super) fn lock(file: &File, folder: &Path) -> Result<()> {
    match file.lock() {
        Err(e) if e.kind() != ErrorKind::Unsupported => Err(failed(&folder.join(FILE))(e)),
        _ => Ok(()),
    }
}

/// Releases the lock of [`lock`].
pub(super) fn unlock(file: &File) {
    // Unlocking a file that was never locked may fail, harmlessly.
    let _ = file.unlock();
}

/// Whether `file` is still the ledger of `folder`.
pub(super) fn is_in(file: &File, folder: &Path) -> bool {
    let there = folder.join(FILE).metadata();
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
        matches!((there, file.metadata()), (Ok(a), Ok(b)) if id(&a) == id(&b))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        there.is_ok()
    }
}

/// A path as written in the ledger: with `/`, as text that is its own ([`to_text`]).
pub(super) fn name(path: &Path) -> String {
    let parts: Vec<&OsStr> = path.components().map(|part| part.as_os_str()).collect();
    to_text(Path::new(&parts.join(OsStr::new("/"))))
}

pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |e| Error::input(format!("{} cannot be read or written", path.display())).with_source(e)
}
