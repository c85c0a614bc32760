//! Picture-sized arrays in memory or on disk, read and written by windows.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::PathBuf;

use ndarray::{Array4, ArrayView4, Axis, s};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{Padding, gather};

/// Where a canvas stores its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In memory.
    #[default]
    Memory,
    /// In an unnamed file, which vanishes with the canvas or the process.
    Disk,
}

/// Creates the files of [`Place::Disk`].
#[derive(Debug, Clone)]
pub struct Store {
    /// The folder. Default: the system's folder for temporary files (`TMPDIR`).
    pub scratch: PathBuf,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            scratch: std::env::temp_dir(),
        }
    }
}

/// Reads rows of a picture: `[1, C, rows, W]`.
pub type ReadRows<'a> = dyn Fn(Range<usize>) -> Result<Array4<f32>> + 'a;

/// An array of 32-bit floats, `[channels, height, width]`.
#[derive(Debug)]
pub struct Canvas {
    channels: usize,
    height: usize,
    width: usize,
    cells: Cells,
}

#[derive(Debug)]
enum Cells {
    /// `[1, C, H, W]` in row-major order.
    Memory(Array4<f32>),
    /// The same order, in a file.
    Disk(File),
}

impl Store {
    /// A canvas of zeros.
    ///
    /// # Errors
    /// [`Resources`](ErrorKind::Resources): there is no memory, or the file cannot be created.
    pub fn canvas(&self, place: Place, channels: usize, size: (usize, usize)) -> Result<Canvas> {
        let (height, width) = size;
        let cells = match place {
            Place::Memory => Cells::Memory(zeros((1, channels, height, width))?),
            Place::Disk => Cells::Disk(self.file((channels * height * width * 4) as u64)?),
        };
        Ok(Canvas {
            channels,
            height,
            width,
            cells,
        })
    }

    fn file(&self, bytes: u64) -> Result<File> {
        let folder = &self.scratch;
        let file = tempfile::tempfile_in(folder).and_then(|file| {
            file.set_len(bytes)?;
            Ok(file)
        });
        file.map_err(|e| {
            let message = format!("no scratch file of {bytes} bytes in {}", folder.display());
            Error::new(ErrorKind::Resources, message).with_source(e)
        })
    }
}

/// An array whose size follows from a picture's: without memory for it the process goes on.
fn zeros(shape: (usize, usize, usize, usize)) -> Result<Array4<f32>> {
    let (n, channels, height, width) = shape;
    let length = [n, channels, height, width]
        .into_iter()
        .try_fold(1, usize::checked_mul);
    let mut values = Vec::new();
    let room = values.try_reserve_exact(length.unwrap_or(usize::MAX));
    let array = room.ok().and_then(|()| {
        values.resize(length?, 0.0);
        Array4::from_shape_vec(shape, values).ok()
    });
    array.ok_or_else(|| {
        let message = format!("there is no memory for {channels}x{height}x{width} values");
        Error::new(ErrorKind::Resources, message)
    })
}

impl From<Array4<f32>> for Canvas {
    /// Takes the first element of a batch `[1, C, H, W]`.
    fn from(array: Array4<f32>) -> Self {
        let (_, channels, height, width) = array.dim();
        let array = match array.is_standard_layout() {
            true => array,
            false => array.as_standard_layout().into_owned(),
        };
        Canvas {
            channels,
            height,
            width,
            cells: Cells::Memory(array),
        }
    }
}

impl Canvas {
    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Where its values are stored.
    pub fn place(&self) -> Place {
        match self.cells {
            Cells::Memory(_) => Place::Memory,
            Cells::Disk(_) => Place::Disk,
        }
    }

    /// Height and width.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// The values of a window, `[1, C, rows, columns]`, which continues beyond the right and bottom edge with `padding`.
    ///
    /// # Errors
    /// As [`window`](Self::window).
    pub fn padded(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        padding: Padding,
    ) -> Result<Array4<f32>> {
        if rows.end <= self.height && columns.end <= self.width {
            return self.window(rows, columns);
        }
        let mut rows = padding.sources(rows, self.height);
        let mut columns = padding.sources(columns, self.width);
        if let Cells::Memory(array) = &self.cells {
            return Ok(gather(array, &rows, &columns));
        }
        let inside = self.window(covering(&mut rows), covering(&mut columns))?;
        Ok(gather(&inside, &rows, &columns))
    }

    /// The values of a window inside of the canvas, `[1, C, rows, columns]`.
    ///
    /// # Errors
    /// [`Resources`](ErrorKind::Resources) if its file cannot be read.
    pub fn window(&self, rows: Range<usize>, columns: Range<usize>) -> Result<Array4<f32>> {
        match &self.cells {
            Cells::Memory(array) => Ok(array.slice(s![.., .., rows, columns]).to_owned()),
            Cells::Disk(file) => {
                let mut window = Array4::zeros((1, self.channels, rows.len(), columns.len()));
                let mut line = vec![0.0_f32; columns.len()];
                for (c, mut plane) in window
                    .index_axis_mut(Axis(0), 0)
                    .outer_iter_mut()
                    .enumerate()
                {
                    for (y, mut row) in rows.clone().zip(plane.outer_iter_mut()) {
                        self.seek(file, c, y, columns.start)
                            .and_then(|mut file| {
                                file.read_exact(bytemuck::cast_slice_mut(&mut line))
                            })
                            .map_err(unreadable)?;
                        row.iter_mut().zip(&line).for_each(|(to, &from)| *to = from);
                    }
                }
                Ok(window)
            }
        }
    }

    /// The values of whole rows, `[1, C, rows, W]`.
    ///
    /// # Errors
    /// As [`window`](Self::window).
    pub fn rows(&self, rows: Range<usize>) -> Result<Array4<f32>> {
        let Cells::Disk(file) = &self.cells else {
            return self.window(rows, 0..self.width);
        };
        let mut values = vec![0.0_f32; self.channels * rows.len() * self.width];
        for (c, plane) in values
            .chunks_exact_mut((rows.len() * self.width).max(1))
            .enumerate()
        {
            self.seek(file, c, rows.start, 0)
                .and_then(|mut file| file.read_exact(bytemuck::cast_slice_mut(plane)))
                .map_err(unreadable)?;
        }
        let shape = (1, self.channels, rows.len(), self.width);
        Array4::from_shape_vec(shape, values)
            .map_err(|e| Error::internal("rows of another size").with_source(e))
    }

    /// Writes `part` `[1, C, h, w]` at row `y` and column `x`.
    ///
    /// # Errors
    /// [`Resources`](ErrorKind::Resources) if its file cannot be written, as on a full disk.
    pub fn put(&mut self, y: usize, x: usize, part: ArrayView4<'_, f32>) -> Result<()> {
        let (_, channels, height, width) = part.dim();
        if channels != self.channels || y + height > self.height || x + width > self.width {
            return Err(Error::internal("a part lies beyond its canvas"));
        }
        if let Cells::Memory(array) = &mut self.cells {
            array
                .slice_mut(s![.., .., y..y + height, x..x + width])
                .assign(&part);
            return Ok(());
        }
        let Cells::Disk(file) = &self.cells else {
            return Ok(());
        };
        for (c, plane) in part.index_axis(Axis(0), 0).outer_iter().enumerate() {
            let whole_rows = width == self.width;
            let pieces = if whole_rows { 1 } else { height };
            for piece in 0..pieces {
                let values: Vec<f32> = match whole_rows {
                    true => plane.iter().copied().collect(),
                    false => plane.row(piece).to_vec(),
                };
                self.seek(file, c, y + piece, x)
                    .and_then(|mut file| file.write_all(bytemuck::cast_slice(&values)))
                    .map_err(unwritable)?;
            }
        }
        Ok(())
    }

    /// All values, `[1, C, H, W]`.
    ///
    /// # Errors
    /// As [`window`](Self::window).
    pub fn to_array(&self) -> Result<Array4<f32>> {
        self.rows(0..self.height)
    }

    /// All values, without a copy if they are in memory.
    ///
    /// # Errors
    /// As [`window`](Self::window).
    pub fn into_array(self) -> Result<Array4<f32>> {
        match self.cells {
            Cells::Memory(array) => Ok(array),
            Cells::Disk(_) => self.to_array(),
        }
    }

    fn seek<'f>(&self, file: &'f File, c: usize, y: usize, x: usize) -> std::io::Result<&'f File> {
        let cell = (c * self.height + y) * self.width + x;
        let mut at = file;
        at.seek(SeekFrom::Start(cell as u64 * 4))?;
        Ok(file)
    }
}

/// The range that holds all of `sources`, which become relative to its start.
fn covering(sources: &mut [Option<usize>]) -> Range<usize> {
    let first = sources.iter().flatten().min().copied().unwrap_or(0);
    let end = sources
        .iter()
        .flatten()
        .max()
        .map_or(first, |last| last + 1);
    sources.iter_mut().flatten().for_each(|i| *i -= first);
    first..end
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Resources, "a scratch file cannot be read").with_source(error)
}

fn unwritable(error: std::io::Error) -> Error {
    let message = "a scratch file cannot be written: is the disk full? TMPDIR names another folder";
    Error::new(ErrorKind::Resources, message).with_source(error)
}

/// Splits `0..length` into ranges of at most `step`.
pub fn bands(length: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    let step = step.max(1);
    (0..length)
        .step_by(step)
        .map(move |start| start..(start + step).min(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::pad_to;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_places_hold_the_same(
            (h, w, c) in (1..20_usize, 1..20_usize, 1..4_usize), (y, x) in (0..20_usize, 0..20_usize), step in 1..9_usize
        ) {
            let whole = Array4::from_shape_fn((1, c, h, w), |(_, c, y, x)| (c * 400 + y * 20 + x) as f32);
            let (y, x) = (y.min(h - 1), x.min(w - 1));
            for place in [Place::Memory, Place::Disk] {
                let mut canvas = Store::default().canvas(place, c, (h, w)).unwrap();
                for rows in bands(h, step) {
                    for columns in bands(w, step) {
                        let part = whole.slice(s![.., .., rows.clone(), columns.clone()]);
                        canvas.put(rows.start, columns.start, part).unwrap();
                    }
                }
                prop_assert_eq!(&canvas.to_array().unwrap(), &whole);
                prop_assert_eq!(canvas.rows(y..h).unwrap(), whole.slice(s![.., .., y.., ..]));
                for padding in [Padding::Zeros, Padding::Reflect] {
                    let beyond = canvas.padded(y..h + 2, x..w + 3, padding).unwrap();
                    let expected = pad_to(&whole, (h + 2, w + 3), padding);
                    prop_assert_eq!(beyond, expected.slice(s![.., .., y.., x..]));
                }
                prop_assert_eq!(&canvas.into_array().unwrap(), &whole);
            }
        }
    }

    #[test]
    fn a_canvas_that_memory_has_no_room_for_is_an_error() {
        let store = Store::default();
        for size in [(1 << 30, 1 << 30), (usize::MAX, 2)] {
            let error = store.canvas(Place::Memory, 3, size).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Resources);
        }
    }

    #[test]
    fn a_part_must_fit_and_a_folder_must_exist() {
        let mut canvas = Store::default().canvas(Place::Memory, 1, (2, 2)).unwrap();
        let part = Array4::zeros((1, 1, 2, 2));
        assert!(canvas.put(1, 0, part.view()).is_err());
        let nowhere = Store {
            scratch: "/nonexistent".into(),
        };
        let error = nowhere.canvas(Place::Disk, 1, (2, 2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resources);
    }
}
