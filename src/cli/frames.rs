//! `--frames`: the inputs are the frames of one sequence, restored alike and in order.
//!
//! Every picture starts from the seed (or the recorded noise) afresh, and frames are of one size, so their noise is the
//! same in either seed mode. What else could make one frame unlike the next is refused here: another size or kind, and
//! captions that differ.

mod names;

use std::path::Path;

use crate::cli::inputs::Job;
use crate::cli::report::Reporter;
use crate::config::InputOptions;
use crate::error::{Error, Result};
use crate::imageio;
use crate::service::caption;

use names::Naming;

/// Brings `jobs` into the order of their numbers. Gaps are noted.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): names that are not of one sequence, two frames of one number, of two
/// sizes or kinds, or with two captions. [`Input`](crate::error::ErrorKind::Input): a frame that is no picture.
pub fn order(jobs: &mut Vec<Job>, input: &InputOptions, reporter: &Reporter) -> Result<()> {
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
    Ok(())
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
fn check_headers(jobs: &[Job], input: &InputOptions) -> Result<()> {
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
    let Some((first, others)) = jobs.split_first() else {
        return Ok(());
    };
    let wanted = caption(&first.input)?;
    for job in others {
        if caption(&job.input)? != wanted {
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
