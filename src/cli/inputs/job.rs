//! An input and its results.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::cli::standard;
use crate::imageio::Format;
use crate::service::caption;
use crate::service::ledger::Planned;

/// Suffixes of intermediate pictures' file names: one picture per job, and two per sample.
pub const STAGE1: &str = "stage1";
/// The decoded picture.
pub const DECODED: &str = "decoded";
/// The colour-corrected picture.
pub const COLOR_FIXED: &str = "color_fixed";

/// An input and its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The low-quality picture.
    pub input: PathBuf,
    /// Its folder relative to the named input folder, and its results' relative to the output folder.
    pub folder: PathBuf,
    /// The result files, one for each sample.
    pub outputs: Vec<PathBuf>,
    /// The name of its stage-1 picture, without suffix and ending.
    pub stem: OsString,
    /// The results' format.
    pub format: Format,
    /// Whether its results exist and are kept.
    pub skip: bool,
}

impl Job {
    /// The job's entry for the ledger of the folder `root`; with its caption if `captions`.
    pub fn planned(&self, root: &Path, captions: bool) -> Planned {
        let below = |file: &PathBuf| file.strip_prefix(root).unwrap_or(file).to_owned();
        let caption = captions.then(|| caption(&self.input));
        Planned {
            input: self.input.clone(),
            name: self.folder.join(self.input.file_name().unwrap_or_default()),
            caption: caption.unwrap_or_default(),
            results: self.outputs.iter().map(below).collect(),
        }
    }

    /// The file of an intermediate picture of sample `k`, below `stages` as the result lies below the output.
    pub fn stage(&self, stages: &Path, what: &str, k: usize) -> PathBuf {
        let stem = match (what, self.outputs.get(k)) {
            (STAGE1, _) | (_, None) => Some(self.stem.as_os_str()),
            (_, Some(output)) if standard::is(output) => Some(self.stem.as_os_str()),
            (_, Some(output)) => output.file_stem(),
        };
        let name = [
            stem.unwrap_or_default(),
            OsStr::new("_"),
            OsStr::new(what),
            OsStr::new(".png"),
        ];
        stages.join(&self.folder).join(name.join(OsStr::new("")))
    }

    /// All files that the job writes, intermediate pictures included.
    pub(super) fn files<'a>(
        &'a self,
        stages: Option<&'a Path>,
    ) -> impl Iterator<Item = PathBuf> + 'a {
        let of_sample =
            move |stages, k| [DECODED, COLOR_FIXED].map(|what| self.stage(stages, what, k));
        let stages = stages.into_iter().flat_map(move |stages| {
            let first = self.stage(stages, STAGE1, 0);
            std::iter::once(first)
                .chain((0..self.outputs.len()).flat_map(move |k| of_sample(stages, k)))
        });
        let files = self.outputs.iter().filter(|file| !standard::is(file));
        files.cloned().chain(stages)
    }
}
