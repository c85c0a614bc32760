//! Protection against hostile files: special files, endless ones, and those writable by other users.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};

/// Opens a regular file for reading. A FIFO or device is refused without waiting for it.
///
/// # Errors
/// As [`File::open`]; [`ErrorKind::InvalidInput`] if it is not a regular file.
pub fn open_regular(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        flags(rustix::fs::OFlags::NONBLOCK),
    );
    let file = options.open(path)?;
    expect_regular(&file.metadata()?)?;
    Ok(file)
}

/// Refuses files that are not regular.
///
/// # Errors
/// [`ErrorKind::InvalidInput`].
pub fn expect_regular(metadata: &Metadata) -> Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::InvalidInput,
            "not a regular file (a pipe, device, socket or folder)",
        )),
    }
}

/// Reads a regular file of at most `most` bytes. Pipes, devices, sockets and folders are refused: they may be endless,
/// and opening one may block for ever.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput): not a regular file; [`FileTooLarge`](ErrorKind::FileTooLarge):
/// larger than `most`; those of the system.
pub fn read_file(path: &Path, most: u64) -> Result<Vec<u8>> {
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
/// Those of [`read_file`]; [`InvalidData`](ErrorKind::InvalidData): not UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    let bytes = read_file(path, most)?;
    String::from_utf8(bytes).map_err(|e| Error::new(ErrorKind::InvalidData, e))
}

fn too_large(most: u64) -> Error {
    let message = format!("more than {most} bytes");
    Error::new(ErrorKind::FileTooLarge, message)
}

/// What begins the text of a path that is no UTF-8; see [`to_text`].
const BYTES: &str = "bytes:";

/// A path as text, one text for each path: itself if it is UTF-8, else `bytes:` and its bytes, all but letters, digits
/// and `/._-` percent-encoded. A path that begins with `bytes:` is written in that way too.
pub fn to_text(path: &Path) -> String {
    let path = path.as_os_str();
    match path.to_str() {
        Some(text) if !text.starts_with(BYTES) => text.to_owned(),
        _ => path
            .as_encoded_bytes()
            .iter()
            .fold(BYTES.to_owned(), |text, &byte| match byte {
                b'/' | b'.' | b'_' | b'-' => text + char::from(byte).encode_utf8(&mut [0; 4]),
                _ if byte.is_ascii_alphanumeric() => {
                    text + char::from(byte).encode_utf8(&mut [0; 4])
                }
                _ => text + &format!("%{byte:02X}"),
            }),
    }
}

/// Opens a lock file, creating it if missing. Links are not followed, and nothing is truncated.
///
/// # Errors
/// Those of the file system.
pub fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        flags(rustix::fs::OFlags::NOFOLLOW),
    );
    options.open(path)
}

#[cfg(unix)]
fn flags(flags: rustix::fs::OFlags) -> i32 {
    flags.bits() as i32
}

/// The programs `name` in the folders of `PATH`, by absolute paths. Relative entries and the working folder are left out:
/// a folder of pictures must not bring programs.
pub fn programs(name: &str) -> impl Iterator<Item = PathBuf> {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let is_elsewhere = move |folder: &PathBuf| {
        let same = here
            .as_ref()
            .is_ok_and(|here| folder.canonicalize().is_ok_and(|x| x == *here));
        folder.is_absolute() && !same
    };
    let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(is_elsewhere).collect();
    let programs = folders.into_iter().map(move |folder| folder.join(&file));
    programs.filter(|program| program.is_file())
}

/// Refuses a file or folder that a user other than this one and root may have written: owned by another user, or
/// writable by group or others. Links are followed. Outside of Unix all files are accepted.
///
/// # Errors
/// [`ErrorKind::PermissionDenied`] with the remedy; those of the file system.
pub fn expect_own(path: &Path) -> Result<()> {
    let metadata = std::fs::metadata(path)?;
    match foreign(&metadata) {
        Some(why) => Err(Error::new(
            ErrorKind::PermissionDenied,
            format!("{}: {why}", path.display()),
        )),
        None => Ok(()),
    }
}

#[cfg(unix)]
fn foreign(metadata: &Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    const STICKY: u32 = 0o1000;
    let user = rustix::process::geteuid().as_raw();
    let (owner, mode) = (metadata.uid(), metadata.mode());
    if owner != user && owner != 0 {
        return Some(format!(
            "owned by user {owner}, who is neither you nor root, and not trusted with code; copy it, or give it to root by \
             `chown`"
        ));
    }
    // In a sticky folder such as /tmp all users may create files, and none may replace those of others.
    let is_shared = metadata.is_dir() && mode & STICKY != 0;
    (mode & 0o022 != 0 && !is_shared).then(|| {
        "others may write to it, so that it is not trusted with code; run `chmod go-w` on it"
            .to_owned()
    })
}

#[cfg(not(unix))]
fn foreign(_: &Metadata) -> Option<String> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn a_lock_follows_no_link_and_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (target, lock) = (dir.path().join("target"), dir.path().join("lock"));
        std::fs::write(&target, b"precious").unwrap();
        symlink(&target, &lock).unwrap();
        assert!(open_lock(&lock).is_err());
        open_lock(&target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        open_lock(&dir.path().join("new")).unwrap();
    }

    #[test]
    fn what_others_may_write_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lib.so");
        std::fs::write(&file, b"").unwrap();
        for (mode, trusted) in [(0o644, true), (0o755, true), (0o664, false), (0o646, false)] {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert_eq!(expect_own(&file).is_ok(), trusted, "{mode:o}");
        }
        for (mode, trusted) in [(0o700, true), (0o775, false), (0o1777, true)] {
            set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(expect_own(dir.path()).is_ok(), trusted, "{mode:o}");
        }
        set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        // Only root may give files away.
        if chown(&file, Some(12345), None).is_ok() {
            let error = expect_own(&file).unwrap_err().to_string();
            assert!(error.contains("owned by user 12345"), "{error}");
        }
    }

    #[test]
    fn paths_are_told_apart_as_text() {
        use std::os::unix::ffi::OsStrExt;
        for (path, text) in [
            (&b"a/\xc3\xa9 %.png"[..], "a/\u{e9} %.png"),
            (b"a/\xe9 %.png", "bytes:a/%E9%20%25.png"),
            (b"bytes:a/%E9", "bytes:bytes%3Aa/%25E9"),
            (b"a\n", "a\n"),
        ] {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            assert_eq!(to_text(path), text);
        }
    }

    #[test]
    fn files_are_read_up_to_their_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"1234").unwrap();
        assert_eq!(read_file(&path, 4).unwrap(), b"1234");
        let error = read_file(&path, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
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
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}");
        }
        assert!(read_file(&socket, 1 << 20).is_err());
    }
}
