//! Results that cannot be written, found before any work: two inputs for one file, an input's own file, a file that
//! exists, a name that is too long.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Job;
use crate::error::{Error, Result, Shown};
use crate::service::ledger::EXISTS;

/// Most inputs of one result that are named.
const NAMED: usize = 10;

/// Drops inputs that are named twice, by whatever path; returns how many.
pub(super) fn drop_repeated(jobs: &mut Vec<Job>) -> usize {
    let before = jobs.len();
    let mut seen = HashSet::new();
    jobs.retain(|job| {
        let real = job
            .input
            .canonicalize()
            .unwrap_or_else(|_| job.input.clone());
        seen.insert((real, job.outputs.clone()))
    });
    before - jobs.len()
}

/// Takes out the jobs that write a file which another one writes too, with the reason.
pub(super) fn take_clashing(jobs: &mut Vec<Job>, stages: Option<&Path>) -> Vec<(PathBuf, Error)> {
    let folds = folds_case(jobs);
    let key = |file: PathBuf| match folds {
        true => PathBuf::from(file.to_string_lossy().to_lowercase()),
        false => file,
    };
    let mut writers: HashMap<PathBuf, BTreeSet<usize>> = HashMap::new();
    for (at, job) in jobs.iter().enumerate() {
        for file in job.files(stages) {
            writers.entry(key(file)).or_default().insert(at);
        }
    }
    let why = |job: &Job| {
        let mut files = job.files(stages);
        files.find_map(|file| {
            let clashing = writers.get(&key(file.clone()))?;
            (clashing.len() > 1).then(|| clash(jobs, clashing, &file))
        })
    };
    let errors: Vec<Option<Error>> = jobs.iter().map(why).collect();
    take(jobs, errors)
}

/// Takes out the jobs with an error.
fn take(jobs: &mut Vec<Job>, errors: Vec<Option<Error>>) -> Vec<(PathBuf, Error)> {
    let mut taken = Vec::new();
    let all = std::mem::take(jobs);
    for (job, error) in all.into_iter().zip(errors) {
        match error {
            Some(error) => taken.push((job.input, error)),
            None => jobs.push(job),
        }
    }
    taken
}

fn clash(jobs: &[Job], clashing: &BTreeSet<usize>, file: &Path) -> Error {
    let mut named: Vec<String> = clashing
        .iter()
        .take(NAMED)
        .map(|&at| Shown(&jobs[at].input).to_string())
        .collect();
    if clashing.len() > NAMED {
        named.push(format!("{} more", clashing.len() - NAMED));
    }
    let last = named.pop().unwrap_or_default();
    Error::option(format!(
        "{} and {last} would all be written to {}: give results names of their own, such as --name '{{name}}_{{ext}}' or \
         --name '{{name}}_{{index}}', or another --output to one of the inputs",
        named.join(", "),
        Shown(file)
    ))
}

/// Whether names that differ in case alone may be one file: it is so in the nearest folder that exists.
fn folds_case(jobs: &[Job]) -> bool {
    let names = |fold: bool| -> HashSet<String> {
        let outputs = jobs.iter().flat_map(|job| &job.outputs);
        let names = outputs.map(|file| file.to_string_lossy());
        names
            .map(|name| {
                if fold {
                    name.to_lowercase()
                } else {
                    name.into_owned()
                }
            })
            .collect()
    };
    if names(true).len() == names(false).len() {
        return false;
    }
    let folder = jobs
        .first()
        .and_then(|job| existing_folder(job.outputs.first()?));
    let probe = folder.and_then(|folder| {
        tempfile::Builder::new()
            .prefix(".diffbir-")
            .tempfile_in(folder)
            .ok()
    });
    probe.is_some_and(|probe| {
        let name = probe
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_uppercase();
        probe.path().with_file_name(name).exists()
    })
}

/// The nearest folder above `file` that exists.
fn existing_folder(file: &Path) -> Option<&Path> {
    let above = file.ancestors().skip(1);
    let mut above = above.map(|folder| {
        if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        }
    });
    above.find(|folder| folder.is_dir())
}

/// Takes out the jobs with a file whose name the system refuses.
pub(super) fn take_unwritable(jobs: &mut Vec<Job>, stages: Option<&Path>) -> Vec<(PathBuf, Error)> {
    let refused = |path: &Path| {
        let error = path.symlink_metadata().err()?;
        matches!(
            error.kind(),
            ErrorKind::InvalidFilename | ErrorKind::InvalidInput
        )
        .then_some(error)
    };
    let why = |job: &Job| {
        let mut files = job.files(stages);
        files.find_map(|file| {
            // In a folder that exists the system looks at the name.
            let there = existing_folder(&file)?.join(file.file_name()?);
            let error = refused(&file).or_else(|| refused(&there))?;
            let name = file.file_name().unwrap_or_default().len();
            let path = file.as_os_str().len();
            let message = format!(
                "the result's name of {name} bytes, in a path of {path}, is too long: shorten it by --name '{{index}}', or \
                 choose another --output"
            );
            Some(Error::option(message).with_source(error))
        })
    };
    let errors: Vec<Option<Error>> = jobs.iter().map(why).collect();
    take(jobs, errors)
}

/// Refuses a result that would replace an input, also through links.
pub(super) fn refuse_victims(jobs: &[Job], stages: Option<&Path>) -> Result<()> {
    let inputs: HashMap<PathBuf, &Path> = jobs
        .iter()
        .filter_map(|job| Some((job.input.canonicalize().ok()?, job.input.as_path())))
        .collect();
    for job in jobs {
        let mut files = job.files(stages);
        let victim = files.find_map(|file| inputs.get(&file.canonicalize().ok()?).copied());
        if let Some(victim) = victim {
            return Err(Error::option(format!(
                "{} is an input, and a result of {} would replace it: choose another --output, or --name \
                 '{{name}}_x{{scale}}'",
                Shown(victim),
                Shown(&job.input)
            )));
        }
    }
    Ok(())
}

/// Refuses a file that exists; a link to nothing counts as existing.
pub(super) fn refuse_existing(job: &Job, stages: Option<&Path>) -> Result<()> {
    let there = |file: &PathBuf| file.symlink_metadata().is_ok();
    job.files(stages).find(there).map_or(Ok(()), |file| {
        Err(Error::option(format!("{} {EXISTS}", Shown(&file))))
    })
}

/// Refuses a result that is a link to nothing.
pub(super) fn refuse_dangling(job: &Job) -> Result<()> {
    let dangling = |file: &&PathBuf| file.is_symlink() && !file.exists();
    job.outputs.iter().find(dangling).map_or(Ok(()), |file| {
        Err(Error::option(format!(
            "{} is a link to nothing: remove it, or choose --overwrite",
            Shown(file)
        )))
    })
}
