//! Names of results.

use std::ffi::OsString;
use std::path::Path;

use super::Job;
use super::walk::Found;
use crate::cli::standard;
use crate::config::{Config, Field, OutputFormat, short};
use crate::error::{Error, Result, Shown};
use crate::imageio::{self, Format};
use crate::options::{Frame, SeedMode, Target};

/// Whether `output` names a file: its ending is that of a format that is written. A folder that exists, a name without
/// ending, or one that ends with `/` names a folder.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): another ending, or an address.
pub(super) fn names_a_file(output: &Path) -> Result<bool> {
    if let Some(why) = address(output) {
        return Err(Error::option(format!("--output {}: {why}", Shown(output))));
    }
    let bytes = output.as_os_str().as_encoded_bytes();
    let is_folder = bytes
        .last()
        .is_some_and(|last| std::path::is_separator(char::from(*last)));
    let ending = output
        .extension()
        .filter(|_| !is_folder && !output.is_dir());
    let Some(ending) = ending else {
        if output.exists() && !output.is_dir() {
            return Err(Error::option(format!(
                "--output {}: this is a file and no folder, and its name has no ending of a picture",
                Shown(output)
            )));
        }
        return Ok(false);
    };
    if Format::of_name(output).is_some() {
        return Ok(true);
    }
    let ending = ending.to_string_lossy().to_lowercase();
    let known: Vec<&'static str> = Format::ALL
        .iter()
        .flat_map(|format| format.endings())
        .copied()
        .collect();
    let near = known
        .iter()
        .find(|known| strsim::osa_distance(&ending, known) == 1);
    let hint = match near {
        _ if imageio::is_picture_name(output) => " this kind is read and not written.".to_owned(),
        Some(near) => format!(" did you mean .{near}?"),
        None => String::new(),
    };
    Err(Error::option(format!(
        "--output {}: unknown ending .{ending}:{hint} results end in .{}. To name a folder, end it with /",
        Shown(output),
        known.join(", .")
    )))
}

/// Why `path` is no file: it is an address of the net.
pub(super) fn address(path: &Path) -> Option<&'static str> {
    let (scheme, _) = path.to_str()?.split_once("://")?;
    let is_scheme = scheme.len() > 1
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    (is_scheme && !path.exists())
        .then_some("addresses are not fetched or written to: name a file of this machine")
}

/// The format of the single result `output`, which must agree with its name.
pub(super) fn format_of_file(output: &Path, found: &Found, asked: OutputFormat) -> Result<Format> {
    let named = Format::of_name(output).unwrap_or_default();
    let asked = match asked {
        OutputFormat::Input if standard::is(&found.path) => {
            return Err(Error::option(
                "standard input has no name that says its format: give the result's with --format",
            ));
        }
        OutputFormat::Input => Format::of_name(&found.path),
        asked => asked.fixed(),
    };
    match asked {
        Some(asked) if standard::is(output) => Ok(asked),
        Some(asked) if asked != named => Err(Error::option(format!(
            "{}: the result is asked for as {asked:?}; name it .{}",
            Shown(output),
            asked.endings()[0]
        ))),
        _ => Ok(named),
    }
}

/// Names results in the folder `output`.
pub(super) struct Naming<'a> {
    output: &'a Path,
    config: &'a Config,
    target: Target,
}

impl<'a> Naming<'a> {
    pub(super) fn of(output: &'a Path, config: &'a Config) -> Result<Self> {
        Ok(Naming {
            output,
            config,
            target: config.options.target()?,
        })
    }

    /// The job of `found`, the `index`-th input.
    ///
    /// # Errors
    /// Those of [`imageio::header`], if a name has the result's size.
    pub(super) fn job(&self, found: &Found, index: usize) -> Result<Job> {
        let of_input = Format::of_name(&found.path);
        let (format, ending) = match (self.config.output.format, of_input, found.path.extension()) {
            (OutputFormat::Input, Some(format), Some(ending)) => (format, ending.to_owned()),
            (asked, ..) => {
                let format = asked.fixed().unwrap_or_default();
                (format, format.endings()[0].into())
            }
        };
        let folder = self.output.join(&found.folder);
        let samples = self.config.options.sampling.samples;
        let (stem, stems) = self.stems(found, index, samples)?;
        let file = |mut stem: OsString| {
            stem.push(".");
            stem.push(&ending);
            folder.join(stem)
        };
        Ok(Job {
            input: found.path.clone(),
            folder: found.folder.clone(),
            outputs: stems.into_iter().map(file).collect(),
            stem,
            format,
            skip: false,
        })
    }

    /// The names of the stage-1 picture and of each sample: the pattern's, with the sample's number behind it if there are
    /// several and the pattern has no place for it.
    fn stems(
        &self,
        found: &Found,
        index: usize,
        samples: usize,
    ) -> Result<(OsString, Vec<OsString>)> {
        let pattern = self.config.output.name.as_ref();
        let frame = self.frame(found)?;
        let stem = |k| match pattern {
            Some(pattern) => pattern.name(|field| self.value(field, found, index, k, frame)),
            None => self.value(Field::Name, found, index, k, frame),
        };
        let numbered = samples > 1 && !pattern.is_some_and(|pattern| pattern.has(Field::Sample));
        let of_sample = |k| {
            let mut stem = stem(k);
            if numbered {
                stem.push(format!("_{k}"));
            }
            stem
        };
        Ok((stem(0), (0..samples).map(of_sample).collect()))
    }

    /// The sizes of `found` and its result, if a name needs them.
    fn frame(&self, found: &Found) -> Result<Option<Frame>> {
        let is_factor = matches!(self.target, Target::Factor(_));
        let needs = self.config.output.name.as_ref();
        match needs
            .is_some_and(|name| name.has(Field::Size) || name.has(Field::Scale) && !is_factor)
        {
            false => Ok(None),
            true => {
                let header = imageio::header(&found.path, self.config.input.decoding())?;
                Ok(Some(self.target.frame((header.height, header.width))))
            }
        }
    }

    fn value(
        &self,
        field: Field,
        found: &Found,
        index: usize,
        k: usize,
        frame: Option<Frame>,
    ) -> OsString {
        let sampling = &self.config.options.sampling;
        let size = frame.map_or((0, 0), |frame| frame.output);
        match field {
            Field::Name => found.path.file_stem().unwrap_or_default().to_owned(),
            Field::Ext => found.path.extension().unwrap_or_default().to_owned(),
            Field::Index => index.to_string().into(),
            Field::Sample => k.to_string().into(),
            Field::Seed => match sampling.seed_mode {
                SeedMode::PerSample => sampling.seed.wrapping_add(k as u64).to_string().into(),
                SeedMode::Stream => sampling.seed.to_string().into(),
            },
            Field::Scale => match (self.target, frame) {
                (Target::Factor(factor), _) => short(factor),
                (_, Some(frame)) => short(frame.output.1 as f64 / frame.part.1.max(1) as f64),
                (_, None) => OsString::new(),
            },
            Field::Size => format!("{}x{}", size.1, size.0).into(),
            Field::Task => self.config.options.restore.task.clone().into(),
        }
    }
}
