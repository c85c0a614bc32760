//! The ledger of runs over several pictures: the file `.diffbir-ledger.jsonl` in the results' folder, which says of every
//! result what it was made of, how, and which bytes it has. By it a run that was stopped at any moment goes on.
//!
//! A result's line is written and synced before the result gets its name, with the SHA-256 of its bytes. So a file with
//! the name of a result is finished if it has those bytes, and somebody else's if it has others or no line; a result that
//! is not there yet is made. Nothing in between exists, whenever a run is killed.
//!
//! All paths in it are relative to the folders of inputs and results, so that both may be moved. Several runs may write
//! into one folder, also at once: each claims its results' names while it lives.

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
use crate::error::{Error, Result};
use crate::imageio::{self, CLAIM, Prepared};

use super::settings;
use file::{Entry, Identity, Line, Made, name};

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

/// A picture under way.
pub struct Begun {
    picture: Planned,
    bytes: Identity,
}

/// What is to be done about a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is made, and nothing may be in its place.
    Missing,
    /// It is made, and replaces what is in its place.
    Replaced,
    /// It stays as it is.
    Finished,
}

/// The ledger of a folder, and this run's claim on its results.
pub struct Ledger {
    folder: PathBuf,
    file: Mutex<File>,
    /// Of this run's settings.
    digest: String,
    overwrites: bool,
    standings: HashMap<PathBuf, Standing>,
    made: Mutex<BTreeSet<PathBuf>>,
    _claim: NamedTempFile,
}

impl Ledger {
    /// Opens the ledger of `folder`, which is made where it is missing, for a run with `settings` over `planned`.
    /// `existing` says what happens to results that are there.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): a result is there and may not be replaced, was made in another way
    /// or of another picture, or another run is about to make it. [`Input`](crate::error::ErrorKind::Input): the ledger
    /// cannot be read or written.
    pub fn open(
        folder: &Path,
        settings: &Value,
        planned: &[Planned],
        existing: Existing,
    ) -> Result<Self> {
        imageio::check_writable(folder)?;
        let mut ledger = file::open(folder)?;
        // Until the claim stands; dropped with the file where this run is refused.
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
            _claim: claim,
        })
    }

    /// As [`open`](Self::open), without a claim and without a change to any file: what would be done about each result.
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

    /// What is to be done about each result, by its path below the folder.
    pub fn standings(&self) -> &HashMap<PathBuf, Standing> {
        &self.standings
    }

    /// A picture is about to be read. Where it changes after that, its results will not pass for the new one's.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): it cannot be read.
    pub fn begin(&self, picture: Planned) -> Result<Begun> {
        Ok(Begun {
            bytes: Identity::of(&picture.input)?,
            picture,
        })
    }

    /// Puts `file`, which is the `k`-th result, into its place, unless the one that is there stays.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input), naming what cannot be read or written.
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

    /// Writes down that `result` is finished and has the bytes of the file `temporary`.
    fn record(&self, begun: &Begun, result: &Path, temporary: &Path) -> Result<()> {
        self.check()?;
        let line = Line::Made(Made {
            result: name(result),
            bytes: Identity::of(temporary)?,
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

    /// Finds out whether the folder is still the one that was opened.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input) where it, or the ledger in it, was removed or replaced.
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

    /// Ends the run: all that it made is to be there.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input), naming a result that is gone.
    pub fn close(&self) -> Result<()> {
        self.check()?;
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = |result: &&PathBuf| !self.folder.join(result).exists();
        made.iter().find(gone).map_or(Ok(()), |result| {
            Err(Error::input(format!(
                "{} was made by this run and is gone: give the command again with --resume",
                self.folder.join(result).display()
            )))
        })
    }
}

/// The results of earlier runs into a folder, by its ledger.
pub struct Known {
    folder: PathBuf,
    names: BTreeSet<String>,
}

impl Known {
    /// Those in `folder`; none where it has no ledger.
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

    /// Whether `path` is one.
    pub fn contains(&self, path: &Path) -> bool {
        let is_known = |path: PathBuf| {
            let below = path.strip_prefix(&self.folder).map(name);
            below.is_ok_and(|name| self.names.contains(&name))
        };
        !self.names.is_empty() && path.canonicalize().is_ok_and(is_known)
    }
}

/// Refuses results that a run which lives has claimed; claims of others are removed.
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
            "another run is under way that makes {}: wait for its end, or choose another --output",
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

/// Decides about results.
struct Judge<'a> {
    folder: &'a Path,
    settings: &'a Value,
    digest: String,
    existing: Existing,
    entries: file::Entries,
}

impl<'a> Judge<'a> {
    fn of(folder: &'a Path, settings: &'a Value, existing: Existing) -> Result<Self> {
        Ok(Judge {
            folder,
            settings,
            digest: bundle::sha256_bytes(settings.to_string().as_bytes()),
            existing,
            entries: file::read(folder)?,
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
            Existing::Refuse => Err(self.refusal(
                result,
                "exists: choose --overwrite, --skip-existing or, to finish an interrupted run, --resume",
            )),
            Existing::Resume => self.resumed(picture, result),
        }
    }

    /// What is to be done about a result that is there when a run goes on.
    fn resumed(&self, picture: &Planned, result: &Path) -> Result<Standing> {
        let Some(entry) = self.entries.results.get(&name(result)) else {
            return Err(self.refusal(
                result,
                "exists, and the ledger does not say how it was made: choose --overwrite, --skip-existing or another \
                 --output",
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
                     --overwrite to make all results anew, or another --output"
                ),
            ));
        }
        let Entry::Made(made) = entry else {
            return Ok(Standing::Replaced);
        };
        let again = "remove it to have it made again, or choose --overwrite";
        if !made.bytes.is_of(&self.folder.join(result))? {
            let why = format!("was changed after it was made: {again}");
            return Err(self.refusal(result, &why));
        }
        let is_same = made.input == name(&picture.name) && made.caption == picture.caption;
        // A picture that cannot be read fails in its turn.
        if !picture.input.exists() || is_same && made.input_bytes.is_of(&picture.input)? {
            return Ok(Standing::Finished);
        }
        let input = picture.input.display();
        let why = format!("was made of another picture or caption than {input} is now: {again}");
        Err(self.refusal(result, &why))
    }

    fn refusal(&self, result: &Path, why: &str) -> Error {
        Error::option(format!("{} {why}", self.folder.join(result).display()))
    }
}

#[cfg(test)]
mod tests;
