//! TIFF files: pixels as they are, with what describes them in front, so that a file is written from start to end.

mod grey_alpha;

use std::io::Write;

pub(super) use grey_alpha::GreyAlpha;

use super::Kept;
use super::pixels::Order;
use super::rows::Rows;
use super::tags::{Directory, EXTRA_SAMPLES, Exif, ICC, Value, XMP};
use crate::error::{Error, Result};

/// Where strips begin.
const STRIP_OFFSETS: u16 = 273;
/// About so many bytes in a strip.
const STRIP: usize = 1 << 20;

/// Writes `rows` with the profile `icc` that they are in, and what else `kept` has.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): more than the 4 GiB that a TIFF holds; those of `sink`.
pub(super) fn write(
    rows: &Rows<'_>,
    icc: Option<&[u8]>,
    kept: &Kept,
    sink: &mut dyn Write,
) -> Result<()> {
    let exif = kept.exif.as_deref().and_then(Exif::read);
    let mut tags = exif.unwrap_or_default();
    let strips = Strips::of(rows);
    tags.main
        .extend(structure(rows, &strips).ok_or_else(too_large)?);
    tags.main
        .extend(icc.map(|icc| (ICC, Value::undefined(icc))));
    let xmp = kept.xmp.as_deref();
    tags.main.extend(xmp.map(|xmp| (XMP, Value::bytes(xmp))));
    let offsets = strips.offsets(8 + tags.size()).ok_or_else(too_large)?;
    tags.main.insert(STRIP_OFFSETS, Value::longs(&offsets));
    let failed = |e: std::io::Error| Error::internal("the TIFF cannot be written").with_source(e);
    sink.write_all(b"II*\0\x08\0\0\0").map_err(failed)?;
    sink.write_all(&tags.layout(8)).map_err(failed)?;
    let mut row = Vec::with_capacity(rows.row_bytes());
    for y in 0..rows.height() {
        row.clear();
        rows.append(y, Order::LittleEndian, &mut row)?;
        sink.write_all(&row).map_err(failed)?;
    }
    Ok(())
}

fn too_large() -> Error {
    Error::option("a TIFF holds at most 4 GiB; choose another format")
}

/// How rows are cut into strips.
struct Strips {
    rows: usize,
    sizes: Vec<usize>,
}

impl Strips {
    fn of(rows: &Rows<'_>) -> Self {
        let each = (STRIP / rows.row_bytes().max(1)).clamp(1, rows.height().max(1));
        let starts = (0..rows.height()).step_by(each);
        let sizes = starts.map(|y| each.min(rows.height() - y) * rows.row_bytes());
        Strips {
            rows: each,
            sizes: sizes.collect(),
        }
    }

    /// Where each begins, the first one at `at`.
    fn offsets(&self, at: usize) -> Option<Vec<u32>> {
        let mut at = at;
        let mut offsets = Vec::with_capacity(self.sizes.len());
        for size in &self.sizes {
            offsets.push(u32::try_from(at).ok()?);
            at = at.checked_add(*size)?;
        }
        u32::try_from(at).ok().map(|_| offsets)
    }
}

/// The tags that say how the pixels lie, [`STRIP_OFFSETS`] still zero.
fn structure(rows: &Rows<'_>, strips: &Strips) -> Option<Directory> {
    let number = |x: usize| u32::try_from(x).ok().map(|x| Value::longs(&[x]));
    let samples = rows.samples();
    let bits = 8 * rows.depth().bytes() as u16;
    let sizes: Option<Vec<u32>> = strips.sizes.iter().map(|&x| x.try_into().ok()).collect();
    let mut tags = Directory::from([
        (256, number(rows.width())?),
        (257, number(rows.height())?),
        (258, Value::shorts(&vec![bits; samples])),
        (259, Value::shorts(&[1])), // not compressed
        (262, Value::shorts(&[if rows.grey() { 1 } else { 2 }])), // from black to white, or RGB
        (STRIP_OFFSETS, Value::longs(&vec![0; strips.sizes.len()])),
        (277, Value::shorts(&[samples as u16])),
        (278, number(strips.rows)?),
        (279, Value::longs(&sizes?)),
        (284, Value::shorts(&[1])), // pixel after pixel
    ]);
    if rows.alpha() {
        tags.insert(EXTRA_SAMPLES, Value::shorts(&[2]));
    }
    Some(tags)
}
