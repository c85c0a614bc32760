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
    /// Decode what is there of a damaged JPEG instead of refusing it; the end of the run names such pictures.
    allow_damaged: bool = false, (long = "allow-damaged", num_args = 0, default_missing_value = "true");
    optional:
}

impl InputOptions {
    /// The decoding options.
    pub fn decoding(&self) -> DecodeOptions {
        DecodeOptions {
            max_pixels: self.max_pixels,
            profiles: self.profiles,
            damaged: self.allow_damaged,
        }
    }
}

/// Colours of the results of pictures that have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "GreyName")]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Grey {
    /// None: a grey picture gives a grey result
    #[default]
    Auto,
    /// Those that the networks give it
    #[cfg_attr(feature = "cli", value(alias = "color"))]
    Colour,
}

/// As the configuration has it; a boolean under the key's former name, `keep_grey`.
#[derive(Deserialize)]
#[serde(untagged)]
enum GreyName {
    Keep(bool),
    Name(String),
}

impl TryFrom<GreyName> for Grey {
    type Error = String;

    fn try_from(name: GreyName) -> std::result::Result<Self, String> {
        match name {
            GreyName::Keep(true) => Ok(Grey::Auto),
            GreyName::Keep(false) => Ok(Grey::Colour),
            GreyName::Name(name) => match name.as_str() {
                "auto" => Ok(Grey::Auto),
                "colour" | "color" => Ok(Grey::Colour),
                _ => Err(format!("{name:?}, expected auto or colour")),
            },
        }
    }
}

/// A colour in sRGB: `white`, `black`, `grey`, or `#rrggbb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Colour(pub [u8; 3]);

impl Colour {
    /// White.
    pub const WHITE: Colour = Colour([255; 3]);
}

impl std::str::FromStr for Colour {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("{name:?}, expected white, black, grey or a colour as #rrggbb");
        match name {
            "white" => return Ok(Colour::WHITE),
            "black" => return Ok(Colour([0; 3])),
            "grey" | "gray" => return Ok(Colour([128; 3])),
            _ => {}
        }
        let digits = name.strip_prefix('#').filter(|digits| digits.len() == 6);
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let [_, r, g, b] = number.ok_or_else(wrong)?.to_be_bytes();
        Ok(Colour([r, g, b]))
    }
}

impl TryFrom<String> for Colour {
    type Error = String;

    fn try_from(name: String) -> std::result::Result<Self, String> {
        name.parse()
    }
}

impl From<Colour> for String {
    fn from(Colour([r, g, b]): Colour) -> String {
        match [r, g, b] {
            [255, 255, 255] => "white".to_owned(),
            [0, 0, 0] => "black".to_owned(),
            _ => format!("#{r:02x}{g:02x}{b:02x}"),
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

/// Codec of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum VideoCodec {
    /// H.264, by libx264
    #[default]
    H264,
    /// H.265 (HEVC), by libx265
    H265,
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
    /// Results of pictures without colour (chroma of at most 2 levels everywhere, however they are stored): auto (grey) or
    /// colour. `--fidelity reference` has colour.
    grey: Grey = Grey::Auto, (long = "grey");
    /// What transparent pixels show in formats without alpha: white, black, grey or #rrggbb.
    background: Colour = Colour::WHITE, (long = "background", value_name = "COLOUR");
    /// Codec of a video result.
    video_codec: VideoCodec = VideoCodec::H264, (long = "video-codec");
    /// Constant rate factor (CRF) of a video result: lower is better and larger.
    video_crf: u8 = 16, [0.0, 51.0], (long = "video-crf", value_name = "N");
    /// Results that exist already: refuse (before any work), overwrite (--overwrite), skip (--skip-existing) or resume (keep
    /// the finished ones of the same settings, --resume).
    existing: Existing = Existing::Refuse, (skip);
    /// Write into the result how it was made: a PNG's text chunk; XMP in JPEG, WebP and TIFF.
    metadata: bool = true,
        (long = "no-metadata", num_args = 0, default_missing_value = "false",
         help = "Do not write into the result how it was made");
    /// Leave out the input's metadata: EXIF, XMP, IPTC, text, comments and resolution. The colour profile stays.
    strip_metadata: bool = false, (long = "strip-metadata", num_args = 0, default_missing_value = "true");
    /// Leave out where the input's EXIF and XMP say that it was taken.
    strip_gps: bool = false, (long = "strip-gps", num_args = 0, default_missing_value = "true");
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
            background: self.background.0,
        }
    }
}
