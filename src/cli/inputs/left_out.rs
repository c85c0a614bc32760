//! What a search leaves out, counted and named.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

/// Endings of pictures and films that are known, whether they are read or not.
const PICTURES: &[&str] = &[
    "3fr", "3gp", "ai", "arw", "avi", "avif", "avifs", "cr2", "cr3", "dcm", "dng", "emf", "eps",
    "erf", "exr", "fit", "fits", "flv", "gif", "hdr", "heic", "heics", "heif", "hif", "ico", "j2c",
    "j2k", "jls", "jng", "jp2", "jpc", "jpf", "jpm", "jpx", "jxl", "jxr", "kdc", "m2ts", "m4v",
    "mkv", "mng", "mov", "mp4", "mpeg", "mpg", "mpo", "mrw", "mts", "nef", "nrw", "orf", "pbm",
    "pcx", "pef", "pfm", "pgm", "pic", "pnm", "ppm", "psb", "psd", "qoi", "raf", "raw", "rw2",
    "rwl", "sgi", "sr2", "srf", "srw", "svg", "svgz", "tga", "ts", "vob", "wbmp", "wdp", "webm",
    "wmf", "wmv", "x3f", "xbm", "xcf", "xpm",
];

/// The text beside a picture that is its caption.
const CAPTION: &str = "txt";

/// Files that were found and are not restored, by reason.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Pictures and films of kinds that are not read, by ending.
    pub unread: BTreeMap<String, usize>,
    /// Other files.
    pub other: usize,
    /// Hidden ones: a leading dot, as macOS's `._NAME` and `.DS_Store`.
    pub hidden: usize,
    /// Results of earlier runs.
    pub results: usize,
    /// Pipes, sockets and devices.
    pub special: usize,
    /// Links to folders that are searched anyway, or that hold the named folder.
    pub links: usize,
    /// Inputs that were named more than once.
    pub repeated: usize,
}

impl LeftOut {
    /// Counts a file that is not named like a picture that is read.
    pub(super) fn count(&mut self, path: &Path) {
        let ending = path.extension().unwrap_or_default();
        let ending = ending.to_string_lossy().to_lowercase();
        if PICTURES.contains(&ending.as_str()) {
            *self.unread.entry(ending).or_default() += 1;
        } else if ending != CAPTION {
            self.other += 1;
        }
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        *self == LeftOut::default()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unread = self
            .unread
            .iter()
            .map(|(ending, count)| format!("{count} .{ending}"));
        let unread: Vec<String> = unread.collect();
        let mut parts = Vec::new();
        if !unread.is_empty() {
            parts.push(format!(
                "{} (not read: convert them to PNG, JPEG or TIFF)",
                unread.join(", ")
            ));
        }
        for (count, one, many) in [
            (self.hidden, "hidden file", "hidden files"),
            (
                self.results,
                "result of an earlier run",
                "results of earlier runs",
            ),
            (
                self.special,
                "pipe, socket or device",
                "pipes, sockets or devices",
            ),
            (
                self.links,
                "link to a folder that is searched anyway",
                "links to folders that are searched anyway",
            ),
            (
                self.repeated,
                "input that is named twice",
                "inputs that are named twice",
            ),
            (self.other, "other file", "other files"),
        ] {
            match count {
                0 => {}
                1 => parts.push(format!("1 {one}")),
                count => parts.push(format!("{count} {many}")),
            }
        }
        f.write_str(&parts.join(", "))
    }
}
