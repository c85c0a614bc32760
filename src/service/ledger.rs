//! The ledger of batch runs: the file `.diffbir-ledger.jsonl` in the output folder. It records the input, the settings
//! and the SHA-256 of every result, so that a run interrupted at any moment can be resumed.
//!
//! A result's line is written and synced before the result is renamed into place, with the SHA-256 of its bytes and of
//! the file that it replaces. So a file at the path of a result is finished if its hash matches, still to be replaced if
//! it is the replaced one, and a foreign file if it differs or has no line; a missing result is made. No other state
//! exists, whenever a run is killed.
//!
//! Paths are relative to the input and output folders, so both may be moved. Several runs may write into one folder,
//! also concurrently: each claims the names of its results while it runs.

mod file;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::bundle;
use crate::config::Existing;
use crate::error::{Error, Result, Shown};
use crate::imageio::{self, CLAIM, Prepared};

use super::settings;
use file::{Entry, Identity, Last, Line, Made, name};

/// Why a result that exists is refused, and the ways out.
pub const EXISTS: &str = "exists: choose `output.existing=overwrite`, `output.existing=skip` or, to finish an interrupted run, `output.existing=resume`";

/// One picture of a run.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The file that is read.
    pub input: PathBuf,
    /// Its path below the folder of inputs.
    pub name: PathBuf,
    /// Its caption, which is part of the prompt; empty without one.
    pub caption: String,
    /// Its results' paths below the folder of results.
    pub results: Vec<PathBuf>,
}

/// A picture in progress.
pub struct Begun {
    picture: Planned,
    bytes: Identity,
}

/// Action for one result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Make it; an existing file is an error.
    Missing,
    /// Make it, replacing an existing file.
    Replaced,
    /// Keep the existing file.
    Finished,
}

/// The ledger of a folder, and this run's claim on its results.
pub struct Ledger {
    folder: PathBuf,
    file: Mutex<File>,
    /// Digest of this run's settings.
    digest: String,
    overwrites: bool,
    standings: HashMap<PathBuf, Standing>,
    made: Mutex<BTreeSet<PathBuf>>,
    inputs: Last,
    _claim: NamedTempFile,
}

impl Ledger {
    /// Opens the ledger of `folder`, creating it if missing, for a run with `settings` over `planned`. `existing`
    /// decides about existing results.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): a result exists and may not be replaced, was made with other
    /// settings or from another picture, or is claimed by another run. [`Input`](crate::error::ErrorKind::Input): the
    /// ledger cannot be read or written.
    pub fn open(
        folder: &Path,
        settings: &Value,
        planned: &[Planned],
        existing: Existing,
    ) -> Result<Self> {
        imageio::check_writable(folder)?;
        let mut ledger = file::open(folder)?;
        // Locked until the claim is recorded; released with the file if this run is refused.
        file::lock(&ledger, folder)?;
        refuse_claimed(folder, planned)?;
        let judge = Judge::of(folder, settings, existing)?;
        let standings = judge.all(planned)?;
        if !judge.entries.settings.contains_key(&judge.digest) {
            let line = Line::settings(&judge.digest, settings);
            file::append(&mut ledger, folder, &line)?;
        }
        let replaced = standings
            .iter()
            .filter(|(_, standing)| **standing == Standing::Replaced);
        let replaced: BTreeSet<String> = replaced.map(|(result, _)| name(result)).collect();
        if !replaced.is_empty() {
            let line = Line::Replacing {
                settings: judge.digest.clone(),
                results: replaced,
            };
            file::append(&mut ledger, folder, &line)?;
        }
        let claim = claim(folder, planned).map_err(file::failed(folder))?;
        file::unlock(&ledger);
        Ok(Ledger {
            digest: judge.digest,
            overwrites: existing == Existing::Overwrite,
            folder: folder.to_owned(),
            file: Mutex::new(ledger),
            standings,
            made: Mutex::default(),
            inputs: judge.inputs,
            _claim: claim,
        })
    }

    /// The actions that [`open`](Self::open) would decide, without a claim and without changing any file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn preview(
        folder: &Path,
        settings: &Value,
        planned: &[Planned],
        existing: Existing,
    ) -> Result<HashMap<PathBuf, Standing>> {
        Judge::of(folder, settings, existing)?.all(planned)
    }

    /// The folder of results.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The action for each result, by its path below the folder.
    pub fn standings(&self) -> &HashMap<PathBuf, Standing> {
        &self.standings
    }

    /// Records the state of an input that is about to be read: if it changes later, its results do not count as results
    /// of the new file.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): it cannot be read.
    pub fn begin(&self, picture: Planned) -> Result<Begun> {
        Ok(Begun {
            bytes: self.inputs.identity(&picture.input)?,
            picture,
        })
    }

    /// Moves `file`, the `k`-th result, to its final path, unless the existing one is kept.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input), naming the file that cannot be read or written.
    pub fn finish(&self, begun: &Begun, k: usize, file: Prepared<'_>) -> Result<()> {
        let Some(result) = begun.picture.results.get(k) else {
            return Err(Error::internal("a result that was not planned"));
        };
        let standing = self.standings.get(result);
        if standing == Some(&Standing::Finished) {
            return Ok(());
        }
        self.record(begun, result, file.temporary())?;
        file.place(self.overwrites || standing == Some(&Standing::Replaced))?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(result.clone());
        Ok(())
    }

    /// Records `result` as finished, with the hash of the file `temporary`.
    fn record(&self, begun: &Begun, result: &Path, temporary: &Path) -> Result<()> {
        self.check()?;
        let line = Line::Made(Made {
            result: name(result),
            bytes: Identity::of(temporary)?,
            replaces: Identity::of(&self.folder.join(result)).ok(),
            input: name(&begun.picture.name),
            input_bytes: begun.bytes.clone(),
            caption: begun.picture.caption.clone(),
            settings: self.digest.clone(),
        });
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file::lock(&file, &self.folder)?;
        let appended = file::append(&mut file, &self.folder, &line);
        file::unlock(&file);
        appended
    }

    /// Checks that the folder is still the one that was opened.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input) if it, or the ledger in it, was removed or replaced.
    pub fn check(&self) -> Result<()> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match file::is_in(&file, &self.folder) {
            true => Ok(()),
            false => Err(Error::input(format!(
                "{} was removed or replaced during the run: its results are lost",
                self.folder.display()
            ))),
        }
    }

    /// Ends the run, and checks that all its results exist.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input), naming a missing result.
    pub fn close(&self) -> Result<()> {
        self.check()?;
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = |result: &&PathBuf| !self.folder.join(result).exists();
        made.iter().find(gone).map_or(Ok(()), |result| {
            Err(Error::input(format!(
                "{} was made by this run and is gone: run it again with `output.existing=resume`",
                self.folder.join(result).display()
            )))
        })
    }
}

/// Results of earlier runs into a folder, from its ledger.
pub struct Known {
    folder: PathBuf,
    names: BTreeSet<String>,
}

impl Known {
    /// The results in `folder`; none without a ledger.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn of(folder: &Path) -> Result<Self> {
        let results = file::read(folder)?.results;
        Ok(Known {
            folder: folder.canonicalize().unwrap_or_default(),
            names: results.into_keys().collect(),
        })
    }

    /// The results in `folder`, if it has a ledger.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn if_any(folder: &Path) -> Result<Option<Self>> {
        let known = Known::of(folder)?;
        Ok(Some(known).filter(|known| !known.names.is_empty()))
    }

    /// Whether these are the results in `folder`.
    pub fn is_of(&self, folder: &Path) -> bool {
        folder.canonicalize().is_ok_and(|real| real == self.folder)
    }

    /// Knows no result any more.
    pub fn forget(&mut self) {
        self.names.clear();
    }

    /// Whether `path` is such a result.
    pub fn contains(&self, path: &Path) -> bool {
        let is_known = |path: PathBuf| {
            let below = path.strip_prefix(&self.folder).map(name);
            below.is_ok_and(|name| self.names.contains(&name))
        };
        !self.names.is_empty() && path.canonicalize().is_ok_and(is_known)
    }
}

/// Refuses results that a live run has claimed; removes claims of dead runs.
fn refuse_claimed(folder: &Path, planned: &[Planned]) -> Result<()> {
    let alive = imageio::sweep(folder).map_err(file::failed(folder))?;
    let claims = alive
        .iter()
        .filter(|path| path.to_string_lossy().ends_with(CLAIM));
    let mut claimed: BTreeSet<String> = BTreeSet::new();
    for path in claims {
        let text = std::fs::read(path).unwrap_or_default();
        claimed.extend(serde_json::from_slice::<Vec<String>>(&text).unwrap_or_default());
    }
    let mut results = planned.iter().flat_map(|picture| &picture.results);
    match results.find(|result| claimed.contains(&name(result))) {
        None => Ok(()),
        Some(result) => Err(Error::option(format!(
            "another run is under way that makes {}: wait for its end, or choose another folder",
            folder.join(result).display()
        ))),
    }
}

fn claim(folder: &Path, planned: &[Planned]) -> std::io::Result<NamedTempFile> {
    let results = planned.iter().flat_map(|picture| &picture.results);
    let names: Vec<String> = results.map(|result| name(result)).collect();
    let mut claim = imageio::temporary(folder, CLAIM)?;
    serde_json::to_writer(&mut claim, &names)?;
    claim.flush()?;
    Ok(claim)
}

/// Decides the action for each result.
struct Judge<'a> {
    folder: &'a Path,
    settings: &'a Value,
    digest: String,
    existing: Existing,
    entries: file::Entries,
    inputs: Last,
}

impl<'a> Judge<'a> {
    fn of(folder: &'a Path, settings: &'a Value, existing: Existing) -> Result<Self> {
        Ok(Judge {
            folder,
            settings,
            digest: bundle::sha256_bytes(settings.to_string().as_bytes()),
            existing,
            entries: file::read(folder)?,
            inputs: Last::default(),
        })
    }

    fn all(&self, planned: &[Planned]) -> Result<HashMap<PathBuf, Standing>> {
        let mut standings = HashMap::new();
        for picture in planned {
            for result in &picture.results {
                standings.insert(result.clone(), self.standing(picture, result)?);
            }
        }
        Ok(standings)
    }

    fn standing(&self, picture: &Planned, result: &Path) -> Result<Standing> {
        if self.folder.join(result).symlink_metadata().is_err() {
            return Ok(Standing::Missing);
        }
        match self.existing {
            Existing::Overwrite => Ok(Standing::Replaced),
            Existing::Skip => Ok(Standing::Finished),
            Existing::Refuse => Err(self.refusal(result, EXISTS)),
            Existing::Resume => self.resumed(picture, result),
        }
    }

    /// The action for an existing result of a resumed run.
    fn resumed(&self, picture: &Planned, result: &Path) -> Result<Standing> {
        let Some(entry) = self.entries.results.get(&name(result)) else {
            return Err(self.refusal(
                result,
                "exists, and the ledger does not say how it was made: choose `output.existing=overwrite`, \
                 `output.existing=skip` or another folder",
            ));
        };
        if entry.settings() != self.digest {
            let then = self.entries.settings.get(entry.settings());
            let difference = then.and_then(|then| settings::difference(then, self.settings));
            let difference = difference.unwrap_or_else(|| "the ledger lacks them".to_owned());
            return Err(self.refusal(
                result,
                &format!(
                    "was made with other settings: {difference}. Give the earlier settings to finish that run, \
                     `output.existing=overwrite` to make all results anew, or another folder"
                ),
            ));
        }
        let Entry::Made(made) = entry else {
            return Ok(Standing::Replaced);
        };
        let again = "remove it to have it made again, or choose `output.existing=overwrite`";
        let file = self.folder.join(result);
        if !made.bytes.is_of(&file)? {
            // Killed between the line and the renaming.
            if let Some(earlier) = &made.replaces
                && earlier.is_of(&file)?
            {
                return Ok(Standing::Replaced);
            }
            let why = format!("was changed after it was made: {again}");
            return Err(self.refusal(result, &why));
        }
        let is_same = made.input == name(&picture.name) && made.caption == picture.caption;
        // An unreadable picture fails when its turn comes.
        if !picture.input.exists()
            || is_same && self.inputs.is_of(&made.input_bytes, &picture.input)?
        {
            return Ok(Standing::Finished);
        }
        let input = picture.input.display();
        let why = format!("was made of another picture or caption than {input} is now: {again}");
        Err(self.refusal(result, &why))
    }

    fn refusal(&self, result: &Path, why: &str) -> Error {
        Error::option(format!("{} {why}", Shown(&self.folder.join(result))))
    }
}

#[cfg(test)]
mod tests;
