//! Verifies files by their SHA-256, and remembers verified ones.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::{self, read_text};

/// Receives the file that is being hashed and its size in bytes.
pub type Progress<'a> = dyn FnMut(&Path, u64) + 'a;

/// Metadata of a file when it was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    sha256: String,
    size: u64,
    modified_ns: u128,
    inode: u64,
}

/// The largest record that is read, in bytes: some 200,000 files.
const MAX_LEDGER: u64 = 64 << 20;

type Ledger = BTreeMap<PathBuf, Stamp>;

/// The SHA-256 of `bytes`, in hexadecimal.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of the file at `path`, in hexadecimal.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256_file(path: &Path) -> std::io::Result<String> {
    let mut file = files::open_regular(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks `files` (name to SHA-256) of `dir`; see [`Bundle::verify`](super::Bundle::verify).
pub(super) fn verify(
    dir: &Path,
    files: &BTreeMap<&str, &str>,
    cache: Option<&Path>,
    force: bool,
    progress: &mut Progress<'_>,
) -> Result<()> {
    let ledger_path = cache.map(|cache| cache.join("verified.json"));
    let mut ledger = ledger_path.as_deref().map(read_ledger).unwrap_or_default();
    let mut changed = false;
    for (name, expected) in files {
        let path = dir.join(name);
        let unreadable =
            |e| Error::bundle(format!("{}: cannot be read", path.display())).with_source(e);
        let metadata = std::fs::metadata(&path).map_err(unreadable)?;
        let stamp = stamp(&metadata, expected);
        let key = path.canonicalize().map_err(unreadable)?;
        if !force && ledger.get(&key) == Some(&stamp) {
            continue;
        }
        progress(&path, metadata.len());
        let found = sha256_file(&path).map_err(unreadable)?;
        if found != **expected {
            return Err(Error::bundle(format!(
                "{}: the file is damaged or not of this bundle: SHA-256 is {found}, expected {expected}. Export or copy \
                 the bundle again",
                path.display()
            )));
        }
        ledger.insert(key, stamp);
        changed = true;
    }
    if let (true, Some(path)) = (changed, ledger_path) {
        // Failing to write the cache only costs time at the next start.
        let _ = write_ledger(&path, &ledger);
    }
    Ok(())
}

fn stamp(metadata: &Metadata, sha256: &str) -> Stamp {
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    let modified_ns = modified.map_or(0, |time| time.as_nanos());
    Stamp {
        sha256: sha256.to_owned(),
        size: metadata.len(),
        modified_ns,
        inode,
    }
}

fn read_ledger(path: &Path) -> Ledger {
    // A record written by another user could declare a damaged file verified.
    if files::expect_own(path).is_err() {
        return Ledger::new();
    }
    let text = read_text(path, MAX_LEDGER).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn write_ledger(path: &Path, ledger: &Ledger) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(&serde_json::to_vec(ledger)?)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.onnx");
        std::fs::write(&file, b"weights").unwrap();
        let sha256 = sha256_bytes(b"weights");
        let files = BTreeMap::from([("a.onnx", sha256.as_str())]);
        let mut reads = 0;
        for _ in 0..2 {
            verify(dir.path(), &files, Some(dir.path()), false, &mut |_, _| {
                reads += 1
            })
            .unwrap();
        }
        assert_eq!(reads, 1, "the second check must trust the first");
        verify(dir.path(), &files, Some(dir.path()), true, &mut |_, _| {
            reads += 1
        })
        .unwrap();
        assert_eq!(reads, 2, "a forced check must read");
        std::fs::write(&file, b"wEights").unwrap();
        let error =
            verify(dir.path(), &files, Some(dir.path()), false, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains(&sha256), "{error}");
    }
}
