//! Temporary files beside results. Each is locked as long as its process lives, so that those of killed runs are known.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// What their names begin with; six letters or digits follow.
const PREFIX: &str = ".diffbir-";

/// The ending of a file that names the results which its run is about to make.
pub const CLAIM: &str = ".claim";

/// A new file in `folder`, which is made where it is missing, locked until it is closed. Its name ends in `ending`:
/// nothing or [`CLAIM`].
///
/// # Errors
/// As the file system's; a file system that knows no locks gives a file without one.
pub fn temporary(folder: &Path, ending: &str) -> io::Result<NamedTempFile> {
    let folder = or_here(folder);
    std::fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(ending);
    // Temporary files are private by default; the umask still applies to what a result asks for.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    loop {
        let file = builder.tempfile_in(folder)?;
        match file.as_file().lock() {
            Err(error) if error.kind() != ErrorKind::Unsupported => return Err(error),
            // Until it was locked, another run may have removed it as a killed one's.
            _ if file.path().exists() => return Ok(file),
            _ => {}
        }
    }
}

/// Removes the temporary files that killed runs left in `folder`, and returns those of runs that are alive.
///
/// # Errors
/// As the file system's, where the folder cannot be read.
pub fn sweep(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut alive = Vec::new();
    for entry in std::fs::read_dir(or_here(folder))? {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(is_temporary);
        if !is_ours || !entry.file_type()?.is_file() {
            continue;
        }
        let path = entry.path();
        let Ok(file) = File::open(&path) else {
            continue;
        };
        match file.try_lock() {
            // Its run may have put it in its place meanwhile.
            Ok(()) => drop(std::fs::remove_file(&path)),
            Err(TryLockError::WouldBlock) => alive.push(path),
            Err(TryLockError::Error(_)) => {}
        }
    }
    Ok(alive)
}

fn is_temporary(name: &str) -> bool {
    let random = name.strip_prefix(PREFIX);
    let random = random.map(|random| random.strip_suffix(CLAIM).unwrap_or(random));
    random.is_some_and(|x| x.len() == 6 && x.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let held = temporary(dir.path(), ".claim").unwrap();
        for name in [".diffbir-abc123", ".diffbir-XYZ789.claim"] {
            std::fs::write(dir.path().join(name), b"half").unwrap();
        }
        let others = [
            ".diffbir-ledger.jsonl",
            ".diffbir-f_1.json",
            "diffbir-abc123",
        ];
        for name in others {
            std::fs::write(dir.path().join(name), b"whole").unwrap();
        }
        assert_eq!(sweep(dir.path()).unwrap(), [held.path()]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
    }
}
