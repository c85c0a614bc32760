//! Tiles of the denoiser.

use std::fmt;

use serde::de::{self, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MAX_TILE, check_tiles};
use crate::error::{Error, Result};
use crate::nets::vae::DOWNSCALE;
use crate::tiling::{EvenTiles, Layout, Tiles};

/// Tiles of ControlNet and UNet, in pixels. As text `auto`, `none`, `SIZE:STRIDE` or `SIZE` (a stride of half the
/// size); as a mapping `{ size, stride }` or `{ size, overlap }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DenoiserTiles {
    /// Untiled up to [`AUTO_WHOLE`] pixels, [`AUTO_TILES`] above.
    #[default]
    Auto,
    /// Untiled, however large the picture is.
    None,
    /// The reference's tiles, if the picture is at least one tile large: size a multiple of 64, stride of 8.
    Reference(Tiles),
    /// Evenly spaced tiles, if the picture is larger than one: size a multiple of 64, overlap of 8 and at most half the
    /// size.
    Even(EvenTiles),
}

/// The largest picture, in pixels including padding, that [`DenoiserTiles::Auto`] does not tile.
pub const AUTO_WHOLE: usize = 1024 * 1024;

/// The tiles of [`DenoiserTiles::Auto`]. Compared with tiles of 512 pixels and an overlap of 128: half as many denoiser
/// calls on as many latent pixels in total, more context per tile, and a result nearer to the untiled one.
pub const AUTO_TILES: EvenTiles = EvenTiles {
    size: 768,
    overlap: 192,
};

impl DenoiserTiles {
    /// The tiles of a latent of this size (height, width), in latent pixels; `None`: untiled. Depends on the options
    /// and the size only.
    pub fn layout(&self, (height, width): (usize, usize)) -> Option<Layout> {
        let even = |tiles: EvenTiles| {
            let tiles = EvenTiles {
                size: tiles.size / DOWNSCALE,
                overlap: tiles.overlap / DOWNSCALE,
            };
            (height.max(width) > tiles.size).then_some(Layout::Even(tiles))
        };
        match *self {
            DenoiserTiles::None => None,
            DenoiserTiles::Auto if height * width * DOWNSCALE * DOWNSCALE <= AUTO_WHOLE => None,
            DenoiserTiles::Auto => even(AUTO_TILES),
            DenoiserTiles::Even(tiles) => even(tiles),
            DenoiserTiles::Reference(tiles) => {
                let tiles = Tiles {
                    size: tiles.size / DOWNSCALE,
                    stride: tiles.stride / DOWNSCALE,
                };
                tiles
                    .fit((height, width))
                    .then_some(Layout::Reference(tiles))
            }
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        match *self {
            DenoiserTiles::Auto | DenoiserTiles::None => Ok(()),
            DenoiserTiles::Reference(tiles) => check_tiles("tiling.cldm", tiles, (64, 8)),
            DenoiserTiles::Even(EvenTiles { size, overlap }) => {
                let fits = size <= MAX_TILE
                    && size.is_multiple_of(64)
                    && overlap.is_multiple_of(8)
                    && (1..=size / 2).contains(&overlap);
                if fits {
                    return Ok(());
                }
                Err(Error::option(format!(
                    "tiling.cldm has size {size} and overlap {overlap}, expected a size that is a multiple of 64, and an \
                     overlap that is a multiple of 8 and at most half of it, size at most {MAX_TILE}"
                )))
            }
        }
    }
}

impl Serialize for DenoiserTiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            DenoiserTiles::Auto => serializer.serialize_str("auto"),
            DenoiserTiles::None => serializer.serialize_str("none"),
            DenoiserTiles::Reference(tiles) => tiles.serialize(serializer),
            DenoiserTiles::Even(tiles) => tiles.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for DenoiserTiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

/// A mapping of either kind of tiles.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sizes {
    size: usize,
    stride: Option<usize>,
    overlap: Option<usize>,
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = DenoiserTiles;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("auto, none, SIZE[:STRIDE], { size, stride } or { size, overlap }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<DenoiserTiles, E> {
        match text {
            "auto" => Ok(DenoiserTiles::Auto),
            "none" => Ok(DenoiserTiles::None),
            _ => {
                let tiles = text.parse().map(DenoiserTiles::Reference);
                tiles.map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
    }

    fn visit_u64<E: de::Error>(self, size: u64) -> std::result::Result<DenoiserTiles, E> {
        self.visit_str(&size.to_string())
    }

    /// `null`, as other keys are unset.
    fn visit_unit<E: de::Error>(self) -> std::result::Result<DenoiserTiles, E> {
        Ok(DenoiserTiles::None)
    }

    fn visit_map<A: de::MapAccess<'de>>(
        self,
        map: A,
    ) -> std::result::Result<DenoiserTiles, A::Error> {
        let Sizes {
            size,
            stride,
            overlap,
        } = Sizes::deserialize(MapAccessDeserializer::new(map))?;
        match (stride, overlap) {
            (Some(stride), None) => Ok(DenoiserTiles::Reference(Tiles { size, stride })),
            (None, Some(overlap)) => Ok(DenoiserTiles::Even(EvenTiles { size, overlap })),
            _ => Err(de::Error::custom(
                "expected a stride (the reference's tiles) or an overlap (evenly spread ones) beside the size",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(value: &Value) -> std::result::Result<DenoiserTiles, String> {
        serde_json::from_value(value.clone()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_spelling_is_read_and_written_back() {
        let reference = DenoiserTiles::Reference(Tiles {
            size: 512,
            stride: 256,
        });
        let even = DenoiserTiles::Even(EvenTiles {
            size: 512,
            overlap: 128,
        });
        for (value, tiles) in [
            (json!("auto"), DenoiserTiles::Auto),
            (json!("none"), DenoiserTiles::None),
            (json!({ "size": 512, "stride": 256 }), reference),
            (json!({ "size": 512, "overlap": 128 }), even),
        ] {
            assert_eq!(parse(&value), Ok(tiles));
            assert_eq!(serde_json::to_value(tiles).ok(), Some(value));
        }
        for text in [json!("512:256"), json!("512"), json!(512)] {
            assert_eq!(parse(&text), Ok(reference));
        }
        assert_eq!(parse(&Value::Null), Ok(DenoiserTiles::None));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (value, says) in [
            (json!("smooth"), "expected auto, none, SIZE[:STRIDE]"),
            (json!("512:x"), "expected auto, none, SIZE[:STRIDE]"),
            (json!(-512), "expected auto, none, SIZE[:STRIDE]"),
            (json!({ "size": 512 }), "expected a stride"),
            (
                json!({ "size": 512, "stride": 256, "overlap": 128 }),
                "or an overlap",
            ),
            (
                json!({ "size": 512, "step": 256 }),
                "unknown field `step`, expected one of `size`, `stride`, `overlap`",
            ),
        ] {
            let error = parse(&value).err().unwrap_or_default();
            assert!(error.contains(says), "{value}: {error}");
        }
    }

    #[test]
    fn auto_follows_from_the_size_alone() {
        let auto = |size| DenoiserTiles::Auto.layout(size);
        assert_eq!(auto((128, 128)), None);
        let tiles = EvenTiles {
            size: 96,
            overlap: 24,
        };
        assert_eq!(auto((128, 136)), Some(Layout::Even(tiles)));
    }
}
