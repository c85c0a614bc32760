//! Pictures from files and bytes, and back.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use image::{ColorType, DynamicImage, ImageDecoder, ImageReader};
use ndarray::Array3;

use crate::error::{Error, Result};

/// An 8-bit RGB picture, `[H, W, 3]`.
pub type Rgb = Array3<u8>;

/// A decoded picture.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The colours, without alpha.
    pub rgb: Rgb,
    /// What the file held that the result will not: `alpha`, `16-bit depth`, `ICC profile`, `EXIF`.
    pub dropped: Vec<&'static str>,
}

/// Reads the picture at `path`. Its format follows from its contents, not from its name.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): a file that cannot be read, is no picture, is damaged, or has more
/// than `max_pixels` pixels (which is found out before anything is decoded).
pub fn read(path: &Path, max_pixels: u64) -> Result<Picture> {
    decode(&std::fs::read(path).map_err(unreadable)?, max_pixels)
}

fn unreadable(error: std::io::Error) -> Error {
    Error::input("cannot be read").with_source(error)
}

/// Decodes a picture from the bytes of its file; see [`read`].
///
/// # Errors
/// As [`read`].
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Picture> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(unreadable)?;
    if reader.format().is_none() {
        return Err(Error::input(
            "not a picture of a known kind (PNG, JPEG, WebP, TIFF, BMP), or empty",
        ));
    }
    // The limits of the crate are about memory; ours are about the pixels that the networks will see.
    reader.no_limits();
    let damaged =
        |e: image::ImageError| Error::input("damaged or unsupported picture").with_source(e);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > max_pixels {
        return Err(Error::input(format!(
            "{width}x{height} is {pixels} pixels, more than the limit of {max_pixels} (raise it with --max-pixels)"
        )));
    }
    if pixels == 0 {
        return Err(Error::input(format!(
            "{width}x{height}: a picture without pixels"
        )));
    }
    let dropped = dropped(&mut decoder);
    let image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    Ok(Picture {
        rgb: to_rgb(image)?,
        dropped,
    })
}

fn dropped(decoder: &mut impl ImageDecoder) -> Vec<&'static str> {
    let color = decoder.color_type();
    let mut dropped = Vec::new();
    if color.has_alpha() {
        dropped.push("alpha");
    }
    if color.bytes_per_pixel() > color.channel_count() {
        dropped.push("16-bit depth");
    }
    if matches!(decoder.icc_profile(), Ok(Some(_))) {
        dropped.push("ICC profile");
    }
    if matches!(decoder.exif_metadata(), Ok(Some(_))) {
        dropped.push("EXIF");
    }
    dropped
}

/// As Pillow's `convert("RGB")`: alpha is dropped, not blended, and of 16 bits the high ones are kept.
fn to_rgb(image: DynamicImage) -> Result<Rgb> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let high_byte = |x: u16| (x >> 8) as u8;
    let bytes: Vec<u8> = match image.color() {
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => image
            .into_rgb16()
            .into_raw()
            .into_iter()
            .map(high_byte)
            .collect(),
        _ => image.into_rgb8().into_raw(),
    };
    Array3::from_shape_vec((height, width, 3), bytes).map_err(|e| {
        Error::internal("the decoder returned another size than it announced").with_source(e)
    })
}

/// `rgb` as a PNG with `text` chunks (key to text, UTF-8).
///
/// # Errors
/// [`Internal`](crate::error::ErrorKind::Internal): the encoder fails.
pub fn encode_png(rgb: &Rgb, text: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let failed = |e: png::EncodingError| Error::internal("the PNG encoder failed").with_source(e);
    let (height, width, _) = rgb.dim();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (key, value) in text {
        encoder
            .add_itxt_chunk(key.clone(), value.clone())
            .map_err(failed)?;
    }
    let mut writer = encoder.write_header().map_err(failed)?;
    writer
        .write_image_data(rgb.as_standard_layout().as_slice().unwrap_or_default())
        .map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// Writes `bytes` to `path` at once or not at all: to a temporary file in the same folder, synced, then renamed.
/// Missing folders are made. `replace` allows an existing file to be replaced.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input), naming what could not be written.
pub fn write_atomic(path: &Path, bytes: &[u8], replace: bool) -> Result<()> {
    let unwritable =
        |e: std::io::Error| Error::input(format!("cannot write {}", path.display())).with_source(e);
    let mut file = temporary_in(path.parent().unwrap_or(Path::new(""))).map_err(unwritable)?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .map_err(unwritable)?;
    let kept = if replace {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    kept.map(drop).map_err(|e| unwritable(e.error))
}

/// Makes `folder` where it is missing, and tries whether a file can be made in it.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input), naming the folder.
pub fn check_writable(folder: &Path) -> Result<()> {
    let tried = temporary_in(folder).map(drop);
    tried
        .map_err(|e| Error::input(format!("cannot write into {}", folder.display())).with_source(e))
}

fn temporary_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    std::fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".diffbir-");
    // Temporary files are private unless told otherwise; the umask still applies to what a result asks for.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Rgb {
        Array3::from_shape_fn((5, 7, 3), |(y, x, c)| (y * 40 + x * 5 + c) as u8)
    }

    #[test]
    fn png_round_trip_with_text() {
        let text = BTreeMap::from([("diffbir".to_owned(), "{\"seed\":231}".to_owned())]);
        let bytes = encode_png(&sample(), &text).unwrap();
        let picture = decode(&bytes, 100).unwrap();
        assert_eq!(picture.rgb, sample());
        assert!(picture.dropped.is_empty());
        let reader = png::Decoder::new(Cursor::new(&bytes)).read_info().unwrap();
        let chunk = &reader.info().utf8_text[0];
        assert_eq!(
            (chunk.keyword.as_str(), chunk.get_text().unwrap().as_str()),
            ("diffbir", "{\"seed\":231}")
        );
    }

    #[test]
    fn too_many_pixels_are_refused_before_decoding() {
        let bytes = encode_png(&sample(), &BTreeMap::new()).unwrap();
        let error = decode(&bytes[..60], 34).unwrap_err();
        assert!(error.to_string().contains("35 pixels"), "{error}");
    }

    #[test]
    fn sixteen_bits_keep_the_high_byte_and_say_so() {
        let image = image::ImageBuffer::<image::Luma<u16>, _>::from_fn(2, 1, |x, _| {
            image::Luma([0x12FF + 256 * x as u16])
        });
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageLuma16(image)
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        let picture = decode(bytes.get_ref(), 10).unwrap();
        assert_eq!(
            picture.rgb.as_slice().unwrap(),
            [0x12, 0x12, 0x12, 0x13, 0x13, 0x13]
        );
        assert_eq!(picture.dropped, ["16-bit depth"]);
    }

    #[test]
    fn an_existing_file_is_replaced_only_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/a.png");
        write_atomic(&path, b"1", false).unwrap();
        assert!(write_atomic(&path, b"2", false).is_err());
        write_atomic(&path, b"3", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"3");
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "temporary files were left behind");
    }
}
