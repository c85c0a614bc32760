//! Options of reading pictures and writing results.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::NamePattern;
use crate::declare::options;
use crate::imageio::{DecodeOptions, Depth, EncodeOptions, Format};

/// The largest picture that is decoded by default, in pixels.
pub const DEFAULT_MAX_PIXELS: u64 = 100_000_000;

options! {
    /// Reading pictures.
    struct InputOptions, layer InputLayer, section "input";
    /// Largest picture that is decoded, in pixels.
    max_pixels: u64 = DEFAULT_MAX_PIXELS, [1.0, 1e11], (long = "max-pixels", value_name = "N");
    /// Convert colours to sRGB for the networks, and back, by the picture's profile.
    profiles: bool = true,
        (long = "ignore-profiles", num_args = 0, default_missing_value = "false",
         help = "Take colours as they are, instead of converting them to sRGB by the picture's profile, and back");
    /// Read NAME.txt beside a picture as its caption, put before the prompt.
    captions: bool = true,
        (long = "no-captions", num_args = 0, default_missing_value = "false",
         help = "Do not read NAME.txt beside a picture as its caption, put before the prompt");
    optional:
}

impl InputOptions {
    /// The decoding options.
    pub fn decoding(&self) -> DecodeOptions {
        DecodeOptions {
            max_pixels: self.max_pixels,
            profiles: self.profiles,
        }
    }
}

/// Treatment of existing results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// Refuse before any work.
    #[default]
    Refuse,
    /// Replace it.
    Overwrite,
    /// Keep it and continue with the next picture.
    Skip,
    /// Keep it if the ledger records it as finished with the same settings; refuse otherwise.
    Resume,
}

/// File format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum OutputFormat {
    /// From the output file name; PNG for folders
    #[default]
    Auto,
    /// The input's
    Input,
    /// PNG
    Png,
    /// JPEG
    Jpeg,
    /// WebP, lossless
    Webp,
    /// TIFF
    Tiff,
    /// BMP
    Bmp,
}

impl OutputFormat {
    /// The format, if it does not depend on a name.
    pub fn fixed(self) -> Option<Format> {
        match self {
            OutputFormat::Auto | OutputFormat::Input => None,
            OutputFormat::Png => Some(Format::Png),
            OutputFormat::Jpeg => Some(Format::Jpeg),
            OutputFormat::Webp => Some(Format::Webp),
            OutputFormat::Tiff => Some(Format::Tiff),
            OutputFormat::Bmp => Some(Format::Bmp),
        }
    }
}

options! {
    /// Writing results.
    struct OutputOptions, layer OutputLayer, section "output";
    /// File format of results.
    format: OutputFormat = OutputFormat::Auto, (long = "format");
    /// JPEG quality.
    quality: u8 = 95, [1.0, 100.0], (long = "quality", value_name = "N");
    /// Bits per channel of PNG and TIFF: auto (16 where the input has more than 8), 8 or 16.
    depth: Depth = Depth::Auto, (long = "depth");
    /// Write results of grey pictures as grey.
    keep_grey: bool = false, (long = "keep-grey", num_args = 0, default_missing_value = "true");
    /// Results that exist already: refuse (before any work), overwrite (--overwrite), skip (--skip-existing) or resume (keep
    /// the finished ones of the same settings, --resume).
    existing: Existing = Existing::Refuse, (skip);
    /// Write into the PNG how it was made.
    metadata: bool = true,
        (long = "no-metadata", num_args = 0, default_missing_value = "false",
         help = "Do not write into the PNG how it was made");
    optional:
    /// Names of results in a folder, without ending: text and the fields {name} (the input's name), {ext} (its ending),
    /// {index}, {sample}, {seed}, {scale}, {size}, {task}. Unset: {name}.
    name: NamePattern, (long = "name", value_name = "PATTERN", num_args = 1);
    /// Folder for the stage-1, decoded and colour-corrected images, as PNG. Unset: they are not written.
    save_stages: PathBuf, (long = "save-stages", value_name = "DIR", num_args = 1);
}

impl OutputOptions {
    /// The encoding of a result in `format`.
    pub fn encoding(&self, format: Format) -> EncodeOptions {
        EncodeOptions {
            format,
            quality: self.quality,
            depth: self.depth,
            keep_grey: self.keep_grey,
        }
    }
}
