//! `--frames`: the inputs are the frames of one sequence, restored alike, and a run that was stopped goes on.
//!
//! Every picture starts from the seed (or the recorded noise) afresh, and frames are of one size, so their noise is the
//! same in either seed mode. What else could make one frame unlike the next is refused here: another size or kind, and
//! captions that differ.

mod names;
mod record;
mod settings;

use std::path::Path;

use crate::cli::args::{Common, Restore};
use crate::cli::inputs::Job;
use crate::cli::report::Reporter;
use crate::cli::restore::Session;
use crate::cli::setup;
use crate::config::{Existing, InputConfig};
use crate::error::{Error, Result};
use crate::{imageio, prompts};

use names::Naming;
use record::{Record, Start};

/// The command's flags, where results of a sequence that exist are left out unless they are to be replaced.
pub fn flags(args: &Restore) -> Result<Common> {
    let mut common = args.common.clone();
    if args.frames && setup::without_bundle(&common)?.output.existing != Existing::Overwrite {
        common.skip_existing = true;
    }
    Ok(common)
}

/// A sequence whose frames belong together.
pub struct Sequence {
    naming: Naming,
}

impl Sequence {
    /// Brings `jobs` into the order of their numbers. Gaps are noted.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): names that are not of one sequence, two frames of one number, of
    /// two sizes or kinds, or with two captions. [`Input`](crate::error::ErrorKind::Input): a frame that is no picture.
    pub fn of(jobs: &mut Vec<Job>, input: &InputConfig, reporter: &Reporter) -> Result<Self> {
        let paths: Vec<&Path> = jobs.iter().map(|job| job.input.as_path()).collect();
        let naming = Naming::of(&paths)?;
        let numbers = sort(jobs, &naming)?;
        if let Some(gaps) = names::gaps(&numbers) {
            reporter.note(&gaps);
        }
        check_headers(jobs, input)?;
        if input.captions {
            check_captions(jobs)?;
        }
        Ok(Sequence { naming })
    }

    /// Settles which of the results that are there stand. Writes down how this run makes its results, unless it is dry.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): there are results that were made in another way, or nobody knows
    /// how, and they may not be replaced.
    pub fn settle(
        &self,
        jobs: &[Job],
        session: &Session,
        args: &Restore,
        reporter: &Reporter,
    ) -> Result<()> {
        let Some(first) = jobs.first() else {
            return Ok(());
        };
        let options = session.options(first, reporter)?;
        let settings = settings::of(
            session,
            &options,
            self.naming.sequence(),
            args.replay_noise.as_deref(),
        )?;
        Record::of(first, &self.naming).begin(&Start {
            settings,
            jobs,
            overwrite: session.config().output.existing == Existing::Overwrite,
            dry: args.dry_run,
            reporter,
        })
    }
}

/// Sorts `jobs` by their numbers, which are returned.
fn sort(jobs: &mut Vec<Job>, naming: &Naming) -> Result<Vec<u64>> {
    let mut numbered = Vec::with_capacity(jobs.len());
    for job in jobs.drain(..) {
        numbered.push((naming.number(&job.input)?, job));
    }
    numbered.sort_by_key(|(number, _)| *number);
    let twins = numbered.windows(2).find(|pair| pair[0].0 == pair[1].0);
    if let Some([(number, one), (_, two)]) = twins {
        return Err(Error::option(format!(
            "{} and {} are both frame {number}",
            one.input.display(),
            two.input.display()
        )));
    }
    let (numbers, sorted) = numbered.into_iter().unzip();
    *jobs = sorted;
    Ok(numbers)
}

/// Refuses a frame of another size or kind than the first, without decoding any.
fn check_headers(jobs: &[Job], input: &InputConfig) -> Result<()> {
    let header = |job: &Job| {
        imageio::header(&job.input, input.decoding()).map_err(|e| e.at(job.input.display()))
    };
    let Some((first, others)) = jobs.split_first() else {
        return Ok(());
    };
    let wanted = header(first)?;
    for job in others {
        let found = header(job)?;
        if found != wanted {
            return Err(Error::option(format!(
                "{} is {wanted} and {} is {found}: the frames of a sequence are of one size and kind",
                first.input.display(),
                job.input.display()
            )));
        }
    }
    Ok(())
}

/// Refuses captions that differ: the frames' prompts would.
fn check_captions(jobs: &[Job]) -> Result<()> {
    let caption = |job: &Job| {
        let mut caption = String::new();
        prompts::put_caption(&job.input, &mut caption).map(|()| caption)
    };
    let Some((first, others)) = jobs.split_first() else {
        return Ok(());
    };
    let wanted = caption(first)?;
    for job in others {
        if caption(job)? != wanted {
            return Err(Error::option(format!(
                "{} and {} have different captions: the frames of a sequence have one prompt; give --no-captions and \
                 say what they show with --prompt",
                first.input.display(),
                job.input.display()
            )));
        }
    }
    Ok(())
}
