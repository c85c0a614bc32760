//! The kinds of picture files.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Aspect;

/// Whether a file is named like a picture that is read: as one of [`Format`], or as JPEG XL, which is not written. Builds
/// without the feature `jxl` refuse the latter with a message.
pub fn is_picture_name(path: &Path) -> bool {
    let ending = path.extension();
    ending.is_some_and(|ending| ending.eq_ignore_ascii_case("jxl"))
        || Format::of_name(path).is_some()
}

/// A kind of picture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// PNG: lossless, carries everything.
    #[default]
    Png,
    /// JPEG: lossy, without alpha.
    Jpeg,
    /// WebP, lossless.
    Webp,
    /// TIFF, not compressed.
    Tiff,
    /// BMP, pixels alone.
    Bmp,
}

impl Format {
    /// Every kind.
    pub const ALL: [Format; 5] = [
        Format::Png,
        Format::Jpeg,
        Format::Webp,
        Format::Tiff,
        Format::Bmp,
    ];

    /// Its name, as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpeg",
            Format::Webp => "webp",
            Format::Tiff => "tiff",
            Format::Bmp => "bmp",
        }
    }

    /// The endings of its files' names; the first one is given to results.
    pub fn endings(self) -> &'static [&'static str] {
        match self {
            Format::Png => &["png"],
            Format::Jpeg => &["jpg", "jpeg", "jfif", "jpe"],
            Format::Webp => &["webp"],
            Format::Tiff => &["tif", "tiff"],
            Format::Bmp => &["bmp"],
        }
    }

    /// The kind that a file's name says.
    pub fn of_name(path: &Path) -> Option<Format> {
        let ending = path.extension()?.to_string_lossy().to_lowercase();
        let mut all = Format::ALL.into_iter();
        all.find(|format| format.endings().contains(&ending.as_str()))
    }

    /// Whether its files hold this property.
    pub fn carries(self, aspect: Aspect) -> bool {
        match self {
            Format::Png | Format::Tiff => true,
            Format::Jpeg => !matches!(aspect, Aspect::Alpha | Aspect::Depth),
            Format::Webp => !matches!(aspect, Aspect::Depth | Aspect::Iptc | Aspect::Text),
            Format::Bmp => false,
        }
    }

    /// The most pixels that a side of its pictures has, where that is fewer than any picture here has.
    pub(super) fn longest_side(self) -> Option<usize> {
        match self {
            Format::Jpeg => Some(65535),
            Format::Webp => Some(16383),
            Format::Png | Format::Tiff | Format::Bmp => None,
        }
    }

    pub(super) fn of(format: image::ImageFormat) -> Option<Format> {
        match format {
            image::ImageFormat::Png => Some(Format::Png),
            image::ImageFormat::Jpeg => Some(Format::Jpeg),
            image::ImageFormat::WebP => Some(Format::Webp),
            image::ImageFormat::Tiff => Some(Format::Tiff),
            image::ImageFormat::Bmp => Some(Format::Bmp),
            _ => None,
        }
    }
}
