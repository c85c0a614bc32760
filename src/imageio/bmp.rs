//! BMP files: three bytes a pixel, blue first, rows from the last to the first.

use std::io::Write;

use super::Kept;
use super::pixels::Order;
use super::rows::Rows;
use crate::error::{Error, Result};

/// Writes `rows`, of 8 bits in colour, with the resolution of `kept`.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): more than the 4 GiB that a BMP holds; those of `sink`.
pub(super) fn write(rows: &Rows<'_>, kept: &Kept, sink: &mut dyn Write) -> Result<()> {
    let failed = |e: std::io::Error| Error::internal("the BMP cannot be written").with_source(e);
    let pixels = rows.row_bytes().next_multiple_of(4) as u64 * rows.height() as u64;
    let pixels = u32::try_from(pixels)
        .ok()
        .filter(|all| all.checked_add(54).is_some());
    let too_large = || Error::option("a BMP holds at most 4 GiB; choose another format");
    let pixels = pixels.ok_or_else(too_large)?;
    let density = |dpi: f64| (dpi / 0.0254).round() as u32;
    let (x, y) = kept
        .resolution
        .map_or((0, 0), |r| (density(r.x), density(r.y)));
    let (width, height) = (rows.width() as u32, rows.height() as u32);
    // Of the file, then of the picture: one plane of 24 bits, not compressed.
    let headers = [
        54 + pixels,
        0,
        54,
        40,
        width,
        height,
        1 | 24 << 16,
        0,
        pixels,
        x,
        y,
        0,
        0,
    ];
    sink.write_all(b"BM").map_err(failed)?;
    for number in headers {
        sink.write_all(&number.to_le_bytes()).map_err(failed)?;
    }
    let mut row = Vec::new();
    for y in (0..rows.height()).rev() {
        row.clear();
        rows.append(y, Order::LittleEndian, &mut row)?;
        let (colors, _) = row.as_chunks_mut::<3>();
        colors.iter_mut().for_each(|color| color.reverse());
        row.resize(row.len().next_multiple_of(4), 0);
        sink.write_all(&row).map_err(failed)?;
    }
    Ok(())
}
