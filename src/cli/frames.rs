//! `--frames`: the inputs are the frames of one sequence, restored in order with the same settings.
//!
//! Every picture starts from the same seed (or recorded noise), and frames have one size, so their noise is the same in
//! either seed mode. Other causes of differences between frames are refused here: another size or format, and different
//! captions.

mod names;

use std::path::Path;

use crate::cancel::Cancel;
use crate::cli::inputs::Job;
use crate::cli::report::Reporter;
use crate::config::InputOptions;
use crate::error::{Error, Result};
use crate::service::{caption, pictures};

use names::Naming;

/// Sorts `jobs` by frame number. Notes gaps.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): names that do not form one sequence, a number twice, different sizes,
/// formats or captions. [`Input`](crate::error::ErrorKind::Input): a frame that is not a picture.
pub fn order(
    jobs: &mut Vec<Job>,
    input: &InputOptions,
    cancel: &Cancel,
    reporter: &Reporter,
) -> Result<()> {
    let paths: Vec<&Path> = jobs.iter().map(|job| job.input.as_path()).collect();
    let naming = Naming::of(&paths)?;
    let numbers = sort(jobs, &naming)?;
    if let Some(gaps) = names::gaps(&numbers) {
        reporter.note(&gaps);
    }
    check_headers(jobs, input, cancel)?;
    if input.captions {
        check_captions(jobs)?;
    }
    Ok(())
}

/// Sorts `jobs` by their numbers, and returns these.
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

/// Refuses a frame whose size or format differs from the first, without decoding.
fn check_headers(jobs: &[Job], input: &InputOptions, cancel: &Cancel) -> Result<()> {
    let header = |job: &Job| {
        pictures::header(&job.input, input, cancel).map_err(|e| e.at(job.input.display()))
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

/// Refuses different captions, which would make different prompts.
fn check_captions(jobs: &[Job]) -> Result<()> {
    let Some((first, others)) = jobs.split_first() else {
        return Ok(());
    };
    let wanted = caption(&first.input);
    for job in others {
        if caption(&job.input) != wanted {
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
