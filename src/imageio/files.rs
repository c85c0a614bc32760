//! Results to files, whole or not at all.

use std::collections::BTreeMap;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use super::encode::encode_to;
use super::temporary::{sweep, temporary};
use super::{EncodeOptions, Kept, Pixels};
use crate::error::{Error, Result};

/// Where a result goes.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its file.
    pub path: &'a Path,
    /// Whether a file that is there is replaced.
    pub replace: bool,
}

/// A file that is whole and synced, under a temporary name in its folder. Dropped without [`place`](Self::place), it is
/// gone.
#[derive(Debug)]
pub struct Prepared<'a> {
    path: &'a Path,
    file: tempfile::NamedTempFile,
}

impl Prepared<'_> {
    /// Where it lies for now.
    pub fn temporary(&self) -> &Path {
        self.file.path()
    }

    /// Gives it its name. `replace` allows an existing file to be replaced.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input), naming what could not be written.
    pub fn place(self, replace: bool) -> Result<()> {
        let placed = if replace {
            self.file.persist(self.path)
        } else {
            self.file.persist_noclobber(self.path)
        };
        placed.map(drop).map_err(|e| unwritable(self.path)(e.error))
    }
}

/// Encodes `pixels` as [`encode`](super::encode) does, straight into a temporary file beside `path`. Neither a second
/// copy of the pixels nor the encoded picture is held in memory, unless the picture is written as WebP. Missing folders
/// are made.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input), naming what could not be written; those of [`encode`](super::encode).
pub fn prepare<'a>(
    path: &'a Path,
    pixels: &Pixels,
    kept: &Kept,
    options: EncodeOptions,
    text: &BTreeMap<String, String>,
) -> Result<Prepared<'a>> {
    filled(path, |file| {
        let mut sink = Watched {
            file: BufWriter::with_capacity(1 << 18, file),
            failed: None,
        };
        let encoded = encode_to(&mut sink, pixels, kept, options, text);
        let flushed = sink.flush();
        match sink.failed.take() {
            // What an encoder says about a full disk is no defect of the encoder.
            Some(error) => Err(unwritable(path)(error)),
            None => encoded.and(flushed.map_err(unwritable(path))),
        }
    })
}

/// As [`prepare`], put into its place: the file is there at once or not at all.
///
/// # Errors
/// As [`prepare`] and [`Prepared::place`].
pub fn write(
    Place { path, replace }: Place<'_>,
    pixels: &Pixels,
    kept: &Kept,
    options: EncodeOptions,
    text: &BTreeMap<String, String>,
) -> Result<()> {
    prepare(path, pixels, kept, options, text)?.place(replace)
}

/// Writes `bytes` to `path` at once or not at all: to a temporary file in the same folder, synced, then renamed.
/// Missing folders are made. `replace` allows an existing file to be replaced.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input), naming what could not be written.
pub fn write_atomic(path: &Path, bytes: &[u8], replace: bool) -> Result<()> {
    let fill = |file: &mut std::fs::File| file.write_all(bytes).map_err(unwritable(path));
    filled(path, fill)?.place(replace)
}

fn filled(
    path: &Path,
    fill: impl FnOnce(&mut std::fs::File) -> Result<()>,
) -> Result<Prepared<'_>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut file = temporary(folder, "").map_err(unwritable(path))?;
    fill(file.as_file_mut())?;
    file.as_file().sync_all().map_err(unwritable(path))?;
    Ok(Prepared { path, file })
}

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::input(format!("cannot write {}", path.display())).with_source(e)
}

/// A file that remembers why it could not be written: encoders hide it in errors of their own.
struct Watched<W> {
    file: W,
    failed: Option<std::io::Error>,
}

impl<W> Watched<W> {
    fn remember<T>(&mut self, done: std::io::Result<T>) -> std::io::Result<T> {
        done.map_err(|error| {
            let told = std::io::Error::from(error.kind());
            if error.kind() != std::io::ErrorKind::Interrupted {
                self.failed = Some(error);
            }
            told
        })
    }
}

impl<W: Seek> Seek for Watched<W> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let done = self.file.seek(to);
        self.remember(done)
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let done = self.file.write(bytes);
        self.remember(done)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let done = self.file.flush();
        self.remember(done)
    }
}

/// Makes `folder` where it is missing, tries whether a file can be made in it, and removes the temporary files that
/// killed runs left there.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input), naming the folder.
pub fn check_writable(folder: &Path) -> Result<()> {
    let tried = temporary(folder, "").and_then(|_| sweep(folder));
    tried
        .map(drop)
        .map_err(|e| Error::input(format!("cannot write into {}", folder.display())).with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imageio::{Format, Rgb, encode};

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

    #[test]
    fn a_file_is_what_encoding_in_memory_gives() {
        let dir = tempfile::tempdir().unwrap();
        let rgb = Rgb::from_shape_fn((37, 21, 3), |(y, x, c)| (y * 6 + x * 3 + c * 50) as u8);
        let rgb = Pixels::from(rgb);
        for format in Format::ALL {
            let options = EncodeOptions {
                format,
                ..EncodeOptions::default()
            };
            let text = BTreeMap::from([("key".to_owned(), "text".to_owned())]);
            let path = dir.path().join(format.name());
            let place = Place {
                path: &path,
                replace: false,
            };
            write(place, &rgb, &Kept::default(), options, &text).unwrap();
            let bytes = encode(&rgb, &Kept::default(), options, &text).unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "{format:?}");
        }
    }

    #[test]
    fn a_full_disk_is_named_and_leaves_nothing() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        impl Seek for Full {
            fn seek(&mut self, _: SeekFrom) -> std::io::Result<u64> {
                Ok(0)
            }
        }
        for format in Format::ALL {
            let options = EncodeOptions {
                format,
                ..EncodeOptions::default()
            };
            let mut sink = Watched {
                file: Full,
                failed: None,
            };
            let pixels = &Pixels::from(Rgb::zeros((3, 3, 3)));
            let done = encode_to(
                &mut sink,
                pixels,
                &Kept::default(),
                options,
                &BTreeMap::new(),
            );
            assert!(done.is_err(), "{format:?}");
            let failed = sink.failed.map(|e| e.kind());
            assert_eq!(failed, Some(std::io::ErrorKind::StorageFull), "{format:?}");
        }
    }
}
