//! Reading untrusted files of bounded size.

use std::io::{self, Read};
use std::path::Path;

use crate::files::open_regular;

/// Reads a regular file of at most `most` bytes. Pipes, devices, sockets and folders are refused: they may be endless,
/// and opening one may block for ever.
///
/// # Errors
/// [`InvalidInput`](io::ErrorKind::InvalidInput): not a regular file; [`FileTooLarge`](io::ErrorKind::FileTooLarge):
/// larger than `most`; those of the system.
pub fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_large(most));
    }
    let mut bytes = Vec::new();
    let length = usize::try_from(length).map_err(|_| too_large(most))?;
    bytes.try_reserve_exact(length)?;
    // It may have grown.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(too_large(most));
    }
    Ok(bytes)
}

/// As [`read_file`], as text in UTF-8.
///
/// # Errors
/// Those of [`read_file`]; [`InvalidData`](io::ErrorKind::InvalidData): not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let bytes = read_file(path, most)?;
    String::from_utf8(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

fn too_large(most: u64) -> io::Error {
    let message = format!("more than {most} bytes");
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_up_to_their_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"1234").unwrap();
        assert_eq!(read_file(&path, 4).unwrap(), b"1234");
        let error = read_file(&path, 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(read_file(dir.path(), 4).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pipes_devices_and_sockets_are_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let link = dir.path().join("zero.png");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&pipe, &link] {
            let error = read_file(path, 1 << 20).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path:?}");
        }
        assert!(read_file(&socket, 1 << 20).is_err());
    }
}
