//! `diffbir restore CLIP -o OUT.mp4`: restores a clip frame by frame into a folder beside the result, with a ledger, and
//! encodes the frames. The same command goes on where a run was interrupted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::cli::args::Restore;
use crate::cli::inputs::Job;
use crate::cli::plan;
use crate::cli::report::Reporter;
use crate::cli::restore::{Run, noise};
use crate::cli::tally::Tally;
use crate::config::{Config, Existing, OutputFormat};
use crate::error::{Error, Result, Shown};
use crate::imageio::{self, Format, Picture};
use crate::service::video::{self, Clip, Encoding, Frames, Muxer, Tools};
use crate::service::{Opened, Service, Source};

/// The encoded video in the working folder.
const RESULT: &str = "result";

/// Whether a video is to be restored: the result is named like one, or the only input.
pub fn is_asked(args: &Restore) -> bool {
    let is_named = |path: &Path| video::is_named(path) && !path.is_dir();
    let mut inputs = args.inputs.iter().chain(&args.input);
    let only = inputs.next().filter(|_| inputs.next().is_none());
    is_named(&args.output) || only.is_some_and(|only| is_named(only))
}

/// Runs the command.
pub fn run(args: &Restore, cancel: &Cancel, reporter: &Reporter) -> anyhow::Result<Tally> {
    let paths = Paths::of(args)?;
    let tools = Tools::find()?;
    let mut opened = Opened::open_or_demo(args.layers()?, reporter)?;
    refuse_others(args, &opened.config)?;
    // The frames of an interrupted run are kept, whatever is to become of an existing result.
    let existing = std::mem::replace(&mut opened.config.output.existing, Existing::Resume);
    if let Some(tally) = paths.standing(existing, reporter)? {
        return Ok(tally);
    }
    let max_pixels = opened.config.input.max_pixels;
    let clip = Clip::read(&tools, &paths.clip, max_pixels);
    let clip = clip.map_err(|e| e.at(Shown(&paths.clip)))?;
    let service = opened.start(args.bundle.verify, reporter)?;
    reporter.start(&service, 1);
    let source = Source::File(paths.clip.clone());
    let options = service.options(&source, &service.config, reporter)?;
    let output = &service.config.output;
    let muxer = Muxer {
        tools: &tools,
        clip: &clip,
        size: service.engine.plan(clip.size, &options)?.output,
        encoding: Encoding {
            codec: output.video_codec,
            crf: output.video_crf,
        },
        name: &paths.output,
    };
    if args.dry_run {
        plan::of_frames(&service, &clip, &options, reporter)?;
        return Ok(Tally::default());
    }
    let work = Work {
        args,
        paths: &paths,
        muxer,
        max_pixels,
        replace: existing == Existing::Overwrite,
    };
    work.run(&service, cancel, reporter)
}

/// Where things lie.
struct Paths {
    clip: PathBuf,
    output: PathBuf,
    /// The working folder: the restored frames and their ledger.
    frames: PathBuf,
}

impl Paths {
    fn of(args: &Restore) -> Result<Self> {
        let output = &args.output;
        let inputs: Vec<&PathBuf> = args.inputs.iter().chain(&args.input).collect();
        let clip = match inputs.as_slice() {
            [only] if !only.is_dir() => only.to_path_buf(),
            _ => {
                return Err(Error::option(format!(
                    "{} is a video's name: give one video as the input, or a picture or a folder as the result",
                    Shown(output)
                )));
            }
        };
        if !video::is_written(output) || output.is_dir() {
            return Err(Error::option(format!(
                "{} is a video: name the result so too, such as --output {}.mp4 (or .m4v, .mov, .mkv)",
                Shown(&clip),
                Shown(&output.with_extension(""))
            )));
        }
        let is_itself = clip.canonicalize().ok() == output.canonicalize().ok();
        if output.exists() && is_itself {
            let clip = Shown(&clip);
            return Err(Error::option(format!(
                "{clip} is the input: choose another --output"
            )));
        }
        let mut frames = output.clone().into_os_string();
        frames.push(".frames");
        Ok(Paths {
            clip,
            output: output.clone(),
            frames: frames.into(),
        })
    }

    /// The run's outcome where nothing is to be made: the result exists.
    fn standing(&self, existing: Existing, reporter: &Reporter) -> Result<Option<Tally>> {
        let skipped = || {
            reporter.skipped(&self.job(self.output.clone()));
            let tally = Tally {
                skipped: 1,
                ..Tally::default()
            };
            reporter.end(&tally, &[]);
            tally
        };
        if self.output.symlink_metadata().is_err() || existing == Existing::Overwrite {
            return Ok(None);
        }
        if is_same_file(&self.frames.join(RESULT), &self.output) {
            // The run was killed between its last two steps.
            self.clear();
            return Ok(Some(skipped()));
        }
        match existing {
            Existing::Skip => Ok(Some(skipped())),
            _ => Err(Error::option(format!(
                "{} exists: choose --overwrite, --skip-existing or another --output",
                Shown(&self.output)
            ))),
        }
    }

    fn job(&self, output: PathBuf) -> Job {
        Job {
            input: self.clip.clone(),
            folder: PathBuf::new(),
            stem: output.file_stem().unwrap_or_default().to_owned(),
            outputs: vec![output],
            format: Format::Png,
            skip: false,
        }
    }

    /// One job for each frame.
    fn jobs(&self, frames: usize) -> Vec<Job> {
        let file = |k| self.frames.join(format!("frame_{k:08}.png"));
        (1..=frames).map(|k| self.job(file(k))).collect()
    }

    /// Removes the working folder, and from it only what runs put there.
    fn clear(&self) {
        let entries = std::fs::read_dir(&self.frames).into_iter().flatten();
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name == RESULT || name.starts_with("frame_") || name.starts_with(".diffbir-") {
                let _ = std::fs::remove_file(&path);
            }
        }
        let _ = std::fs::remove_dir(&self.frames);
    }
}

#[cfg(unix)]
fn is_same_file(one: &Path, two: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| {
        path.symlink_metadata()
            .map(|file| (file.dev(), file.ino()))
            .ok()
    };
    id(one).is_some() && id(one) == id(two)
}

#[cfg(not(unix))]
fn is_same_file(_: &Path, _: &Path) -> bool {
    false
}

/// Refuses options that do not act on a video.
fn refuse_others(args: &Restore, config: &Config) -> Result<()> {
    let refused = [
        (args.frames, "--frames is for pictures"),
        (args.recursive, "--recursive is for folders"),
        (
            config.options.sampling.samples > 1,
            "--samples is for pictures",
        ),
        (config.output.name.is_some(), "--name is for folders"),
        (
            config.output.format != OutputFormat::Auto,
            "--format is for pictures",
        ),
    ];
    let found = refused.iter().find(|(given, _)| *given);
    found.map_or(Ok(()), |(_, why)| {
        Err(Error::option(format!("{why}: leave it out for a video")))
    })
}

/// The work on one clip.
struct Work<'a> {
    args: &'a Restore,
    paths: &'a Paths,
    muxer: Muxer<'a>,
    max_pixels: u64,
    replace: bool,
}

impl Work<'_> {
    fn run(
        &self,
        service: &Service,
        cancel: &Cancel,
        reporter: &Reporter,
    ) -> anyhow::Result<Tally> {
        let mut jobs = self.paths.jobs(self.muxer.clip.frames());
        let mut run = Run {
            service,
            reporter,
            noise: noise(self.args)?,
            cancel,
            in_order: true,
            refused: Vec::new(),
            ledger: None,
            stdin: None,
        };
        self.open_ledger(&mut run, &mut jobs)?;
        let trial =
            imageio::temporary(&self.paths.frames, "").map_err(unwritable(&self.paths.frames))?;
        self.muxer.try_out(trial.path(), self.max_pixels)?;
        drop(trial);
        let mut tally = self.restore(&run, &jobs)?;
        match tally.failed {
            // A clip is one input.
            0 => {
                self.encode(&jobs, cancel)?;
                drop(run.ledger.take());
                self.paths.clear();
                reporter.note(&self.summary());
                tally = Tally {
                    done: 1,
                    ..Tally::default()
                };
            }
            failed => reporter.note(&format!(
                "{} is not written, since {failed} of its frames failed; the others are kept in {}: give the same command \
                 again",
                Shown(&self.paths.output),
                Shown(&self.paths.frames)
            )),
        }
        reporter.end(&tally, &service.skipped);
        Ok(tally)
    }

    /// Opens the ledger of the frames. With `--overwrite`, frames of other settings or another clip are replaced.
    fn open_ledger(&self, run: &mut Run<'_>, jobs: &mut [Job]) -> Result<()> {
        let folder = &self.paths.frames;
        let hint = "to begin anew, give --overwrite";
        match run.open_ledger(jobs, self.args, folder, Existing::Resume) {
            Err(_) if self.replace => run.open_ledger(jobs, self.args, folder, Existing::Overwrite),
            opened => opened.map_err(|e| e.with_hint(hint)),
        }
    }

    fn restore(&self, run: &Run<'_>, jobs: &[Job]) -> anyhow::Result<Tally> {
        let numbers: HashMap<&Path, usize> = jobs
            .iter()
            .enumerate()
            .map(|(k, job)| (job.outputs[0].as_path(), k))
            .collect();
        if jobs.iter().all(|job| job.skip) {
            return Ok(Tally::default());
        }
        let frames = Frames::of(self.muxer.tools, self.muxer.clip, self.max_pixels)?;
        let is_wanted = |k: usize| jobs.get(k).is_some_and(|job| !job.skip);
        run.frames(jobs, |job| {
            let number = numbers
                .get(job.outputs[0].as_path())
                .copied()
                .unwrap_or_default();
            let pixels = frames.take(number, is_wanted)?;
            let picture = Picture::of_pixels(pixels, None);
            Ok(Source::Frame(job.input.clone(), Arc::new(picture)))
        })
    }

    /// Encodes all frames, and gives the video its name.
    fn encode(&self, jobs: &[Job], cancel: &Cancel) -> Result<()> {
        let (folder, output) = (&self.paths.frames, &self.paths.output);
        let file = imageio::temporary(folder, "").map_err(unwritable(folder))?;
        self.muxer.write(file.path(), self.max_pixels, |k| {
            cancel.check()?;
            let path = &jobs[k].outputs[0];
            std::fs::read(path)
                .map_err(|e| Error::input(format!("cannot read {}", Shown(path))).with_source(e))
        })?;
        let result = folder.join(RESULT);
        let named = file.persist(&result).map_err(|e| e.error);
        named.map_err(unwritable(output))?;
        let linked = match self.replace {
            true => std::fs::rename(&result, output),
            false => std::fs::hard_link(&result, output),
        };
        match linked {
            // A file system without hard links.
            Err(_) if !self.replace && output.symlink_metadata().is_err() => {
                std::fs::rename(&result, output).map_err(unwritable(output))
            }
            linked => linked.map_err(unwritable(output)),
        }
    }

    fn summary(&self) -> String {
        let (height, width) = self.muxer.size;
        let mut line = format!(
            "{} -> {} ({} frames, {width}x{height})",
            Shown(&self.paths.clip),
            Shown(&self.paths.output),
            self.muxer.clip.frames()
        );
        let lost = self.muxer.lost();
        if !lost.is_empty() {
            line.push_str(&format!("; not carried over: {}", lost.join(", ")));
        }
        line
    }
}

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::input(format!("cannot write {}", Shown(path))).with_source(e)
}
