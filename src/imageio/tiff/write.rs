//! TIFF files from rows.

use std::collections::BTreeMap;
use std::io::{Seek, Write};

use tiff::encoder::TiffEncoder;

use super::super::Kept;
use super::super::exif::{Directory, EXTRA_SAMPLES, ICC, IPTC, Value, XMP, put};
use super::super::pixels::Order;
use super::super::rows::Rows;
use crate::error::{Error, Result};

/// About so many bytes in a strip.
const STRIP: usize = 1 << 20;
/// What is left of the 4 GiB for everything but pixels.
const REST: u64 = 1 << 27;

/// Writes `rows` with the profile `icc` that they are in, and what else `kept` has; `text` into XMP.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): more than the 4 GiB that a TIFF holds; those of `sink`.
pub(in crate::imageio) fn write(
    rows: &Rows<'_>,
    icc: Option<&[u8]>,
    kept: &Kept,
    text: &BTreeMap<String, String>,
    sink: impl Write + Seek,
) -> Result<()> {
    if rows.row_bytes() as u64 * rows.height() as u64 > u64::from(u32::MAX) - REST {
        return Err(Error::option(
            "a TIFF holds at most 4 GiB; choose another format",
        ));
    }
    let failed = |e| Error::internal("the TIFF cannot be written").with_source(e);
    let size = (rows.height(), rows.width());
    let mut exif = kept.exif_of(size, true).unwrap_or_default();
    if let Some(comment) = kept.comment() {
        exif.comment(comment);
    }
    let mut file = TiffEncoder::new(sink).map_err(failed)?;
    let below = exif.write_below(&mut file).map_err(failed)?;
    let mut directory = file.image_directory().map_err(failed)?;
    let each = (STRIP / rows.row_bytes().max(1)).clamp(1, rows.height().max(1));
    let (mut offsets, mut sizes, mut strip) = (Vec::new(), Vec::new(), Vec::new());
    for y in 0..rows.height() {
        rows.append(y, Order::native(), &mut strip)?;
        if (y + 1) % each == 0 || y + 1 == rows.height() {
            let at = directory.write_data(&strip[..]).map_err(failed)?;
            offsets.push(at as u32);
            sizes.push(strip.len() as u32);
            strip.clear();
        }
    }
    let mut tags = exif.main;
    tags.extend(below);
    tags.extend(structure(rows, each));
    tags.extend([(273, Value::longs(&offsets)), (279, Value::longs(&sizes))]);
    tags.extend(icc.map(|icc| (ICC, Value::undefined(icc))));
    let xmp = kept.xmp_of(size, text);
    tags.extend(xmp.map(|xmp| (XMP, Value::bytes(&xmp))));
    let iptc = kept.iptc.as_deref();
    tags.extend(iptc.map(|iptc| (IPTC, Value::undefined(iptc))));
    put(&mut directory, &tags).map_err(failed)?;
    directory.finish().map_err(failed)
}

/// The tags that say how the pixels lie.
fn structure(rows: &Rows<'_>, rows_per_strip: usize) -> Directory {
    let samples = rows.samples();
    let bits = 8 * rows.depth().bytes() as u16;
    let [width, height, each] =
        [rows.width(), rows.height(), rows_per_strip].map(|x| Value::longs(&[x as u32]));
    let mut tags = Directory::from([
        (256, width),
        (257, height),
        (258, Value::shorts(&vec![bits; samples])),
        (259, Value::shorts(&[1])), // not compressed
        (262, Value::shorts(&[if rows.grey() { 1 } else { 2 }])), // from black to white, or RGB
        (277, Value::shorts(&[samples as u16])),
        (278, each),
        (284, Value::shorts(&[1])), // pixel after pixel
    ]);
    if rows.alpha() {
        tags.insert(EXTRA_SAMPLES, Value::shorts(&[2]));
    }
    tags
}
