//! Plans the inputs and the path of each result, before any work starts.

mod clashes;
mod glob;
mod job;
mod left_out;
mod naming;
mod walk;

use std::path::{Path, PathBuf};

use crate::cli::standard;
use crate::config::{Config, Existing};
use crate::error::{Error, Result, Shown};
use crate::service::ledger::Known;

pub use job::{COLOR_FIXED, DECODED, Job, STAGE1};
pub use left_out::LeftOut;
use naming::Naming;
use walk::{Found, Walk};

/// The jobs of a run.
#[derive(Debug)]
pub struct Jobs {
    /// In the order of the inputs.
    pub jobs: Vec<Job>,
    /// Inputs that cannot be restored, with the reason; the others can.
    pub refused: Vec<(PathBuf, Error)>,
    /// Whether the output is a folder; else there is one job, and the output is a file.
    pub is_folder: bool,
    /// What was found and is not restored.
    pub left_out: LeftOut,
}

/// The jobs of a run that reads `inputs` and writes to `output`, a file or a folder.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): nothing to do, a result that is an input, or one that exists and may not
/// be replaced, an output whose kind is not known.
pub fn plan(inputs: &[PathBuf], recursive: bool, output: &Path, config: &Config) -> Result<Jobs> {
    let is_folder = !standard::is(output) && !naming::names_a_file(output)?;
    let stages = config.output.save_stages.as_deref();
    let written: Vec<&Path> = [output].into_iter().chain(stages).collect();
    let mut walk = Walk::new(recursive, &written, Known::of(output)?);
    walk.all(inputs)?;
    let Walk {
        found,
        mut left_out,
        mut refused,
        ..
    } = walk;
    let mut jobs = Vec::with_capacity(found.len());
    match is_folder {
        true => {
            let naming = Naming::of(output, config)?;
            for (at, found) in found.iter().enumerate() {
                match naming.job(found, at + 1) {
                    Ok(job) => jobs.push(job),
                    Err(error) => refused.push((found.path.clone(), error)),
                }
            }
        }
        false => {
            let job = |found| file_job(found, output, config);
            jobs = found.iter().map(job).collect::<Result<_>>()?;
        }
    }
    left_out.repeated += clashes::drop_repeated(&mut jobs);
    if jobs.is_empty() && refused.is_empty() {
        return Err(nothing_in(inputs, &left_out));
    }
    if !is_folder && jobs.len() > 1 {
        return Err(Error::option(format!(
            "{} inputs cannot go into one file {}: name a folder",
            jobs.len(),
            Shown(output)
        )));
    }
    clashes::refuse_victims(&jobs, stages)?;
    refused.extend(clashes::take_clashing(&mut jobs, stages));
    refused.extend(clashes::take_unwritable(&mut jobs, stages));
    treat_existing(&mut jobs, is_folder, config)?;
    Ok(Jobs {
        jobs,
        refused,
        is_folder,
        left_out,
    })
}

fn nothing_in(inputs: &[PathBuf], left_out: &LeftOut) -> Error {
    let inputs: Vec<String> = inputs
        .iter()
        .map(|input| Shown(input).to_string())
        .collect();
    let found = match left_out.is_empty() {
        true => String::new(),
        false => format!("; left out: {left_out}"),
    };
    Error::option(format!("no pictures found in {}{found}", inputs.join(", ")))
}

/// The job of the single input `found`.
fn file_job(found: &Found, output: &Path, config: &Config) -> Result<Job> {
    if config.output.name.is_some() {
        return Err(Error::option(format!(
            "output.name (--name) names results in a folder, and {} is a file: give one of them",
            Shown(output)
        )));
    }
    let named = match (standard::is(output), standard::is(&found.path)) {
        (true, true) => Path::new("stdin"),
        (true, false) => found.path.as_path(),
        (false, _) => output,
    };
    let stem = named.file_stem().unwrap_or_default().to_owned();
    let numbered = |k: usize| {
        let mut name = stem.clone();
        name.push(format!("_{k}."));
        name.push(output.extension().unwrap_or_default());
        output.with_file_name(name)
    };
    Ok(Job {
        input: found.path.clone(),
        folder: PathBuf::new(),
        outputs: match config.options.sampling.samples {
            1 => vec![output.to_owned()],
            samples => (0..samples).map(numbered).collect(),
        },
        format: naming::format_of_file(output, found, config.output.format)?,
        stem,
        skip: false,
    })
}

/// Decides about results that exist.
fn treat_existing(jobs: &mut [Job], is_folder: bool, config: &Config) -> Result<()> {
    let stages = config.output.save_stages.as_deref();
    for job in jobs {
        match config.output.existing {
            Existing::Refuse => clashes::refuse_existing(job, stages)?,
            // A single output file has no ledger.
            Existing::Resume if !is_folder => clashes::refuse_existing(job, None)?,
            Existing::Skip if job.outputs.iter().any(standard::is) => {}
            Existing::Skip => {
                clashes::refuse_dangling(job)?;
                job.skip = job.outputs.iter().all(|file| file.exists());
            }
            Existing::Overwrite | Existing::Resume => {}
        }
    }
    Ok(())
}

/// Why an input that cannot be read is none: an address is told from a file.
pub fn address(input: &Path) -> Option<&'static str> {
    naming::address(input)
}

#[cfg(test)]
mod tests;
