//! A sheet of pictures side by side, with labels.

use font8x8::legacy::BASIC_LEGACY;
use ndarray::{Array3, s};

use crate::imageio::{Rgb, pillow_bicubic};

/// One row of a sheet: pictures of one subject, each with its label.
pub struct Row {
    /// The subject.
    pub name: String,
    /// Label and picture, from left to right. All are shown at the size of the last.
    pub pictures: Vec<(String, Rgb)>,
}

const MARGIN: usize = 12;
/// Glyphs are 8 pixels; drawn at twice that.
const GLYPH: usize = 16;
const LABEL: usize = GLYPH + MARGIN;
const PAPER: u8 = 255;
const INK: u8 = 24;

/// Lays `rows` out on white paper.
pub fn compose(rows: &[Row]) -> Rgb {
    let cell = |row: &Row| {
        row.pictures
            .last()
            .map_or((0, 0), |(_, rgb)| (rgb.dim().0, rgb.dim().1))
    };
    let columns = rows.iter().map(|row| row.pictures.len()).max().unwrap_or(0);
    let width = rows.iter().map(|row| cell(row).1).max().unwrap_or(0);
    let height: usize = rows.iter().map(|row| cell(row).0 + LABEL + MARGIN).sum();
    let mut sheet = Array3::from_elem(
        (height + MARGIN, columns * (width + MARGIN) + MARGIN, 3),
        PAPER,
    );
    let mut top = MARGIN;
    for row in rows {
        let (cell_height, cell_width) = cell(row);
        for (column, (label, picture)) in row.pictures.iter().enumerate() {
            let left = MARGIN + column * (width + MARGIN);
            write_text(&mut sheet, top, left, &format!("{} - {label}", row.name));
            let shown = if (picture.dim().0, picture.dim().1) == (cell_height, cell_width) {
                picture.clone()
            } else {
                pillow_bicubic(picture.view(), cell_height, cell_width)
            };
            let rows = top + LABEL..top + LABEL + cell_height;
            sheet
                .slice_mut(s![rows, left..left + cell_width, ..])
                .assign(&shown);
        }
        top += cell_height + LABEL + MARGIN;
    }
    sheet
}

/// Draws ASCII text with its top left corner at (`top`, `left`); text that does not fit is clipped.
fn write_text(sheet: &mut Rgb, top: usize, left: usize, text: &str) {
    let scale = GLYPH / 8;
    for (i, letter) in text.chars().enumerate() {
        let glyph = BASIC_LEGACY[if letter.is_ascii() {
            letter as usize
        } else {
            '?' as usize
        }];
        for (y, bits) in glyph.iter().enumerate() {
            for x in (0..8).filter(|x| bits & (1 << x) != 0) {
                let (y, x) = (top + y * scale, left + i * GLYPH + x * scale);
                for dot in [(y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)] {
                    for channel in 0..3 {
                        if let Some(value) = sheet.get_mut([dot.0, dot.1, channel]) {
                            *value = INK;
                        }
                    }
                }
            }
        }
    }
}
