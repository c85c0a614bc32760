//! BMP files: rows from the last to the first, blue first, or 256 greys.

use std::io::Write;

use super::pixels::Order;
use super::rows::Rows;
use crate::error::{Error, Result};

/// Bytes of the two headers.
const HEADERS: u32 = 14 + 40;

/// Writes `rows`, of 8 bits and without alpha.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): more than the 4 GiB that a BMP holds; those of `sink`.
pub(super) fn write(rows: &Rows<'_>, sink: &mut dyn Write) -> Result<()> {
    let failed = |e: std::io::Error| Error::internal("the BMP cannot be written").with_source(e);
    let headers = headers(rows);
    let headers =
        headers.ok_or_else(|| Error::option("a BMP holds at most 4 GiB; choose another format"))?;
    sink.write_all(&headers).map_err(failed)?;
    let mut row = Vec::new();
    for y in (0..rows.height()).rev() {
        row.clear();
        rows.append(y, Order::LittleEndian, &mut row)?;
        if !rows.grey() {
            row.as_chunks_mut::<3>()
                .0
                .iter_mut()
                .for_each(|color| color.reverse());
        }
        row.resize(row.len().next_multiple_of(4), 0);
        sink.write_all(&row).map_err(failed)?;
    }
    Ok(())
}

/// The headers, with the greys where the picture is grey.
fn headers(rows: &Rows<'_>) -> Option<Vec<u8>> {
    let greys: u32 = if rows.grey() { 256 } else { 0 };
    let start = HEADERS + 4 * greys;
    let row = u32::try_from(rows.row_bytes())
        .ok()?
        .checked_next_multiple_of(4)?;
    let pixels = row.checked_mul(u32::try_from(rows.height()).ok()?)?;
    let side = |x: usize| i32::try_from(x).ok().map(i32::to_le_bytes);
    let mut bytes = b"BM".to_vec();
    for number in [pixels.checked_add(start)?, 0, start, 40] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(side(rows.width())?);
    bytes.extend(side(rows.height())?);
    bytes.extend([1, 0, 8 * rows.samples() as u8, 0]);
    // Not compressed; no resolution; all greys in use.
    for number in [0, pixels, 0, 0, greys, greys] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend((0..greys).flat_map(|grey| [grey as u8, grey as u8, grey as u8, 0]));
    Some(bytes)
}
