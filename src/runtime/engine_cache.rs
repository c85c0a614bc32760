//! TensorRT's engine cache: one folder for each combination of everything an engine depends on, filled by one process
//! at a time.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::provider::{Provider, Settings};
use super::{GraphFile, RuntimeOptions, library, nvidia, probe};
use crate::error::{Error, Result};
use crate::files;

/// Everything that an engine depends on, except for the options, which TensorRT's provider puts into the engine's file
/// name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key<'a> {
    /// SHA-256 of each of the graph's files, weights among them.
    pub hashes: &'a [String],
    /// ONNX Runtime's version.
    pub runtime: &'a str,
    /// TensorRT's version; `None` if unknown.
    pub tensorrt: Option<i32>,
    /// The device's name; `None` if unknown.
    pub device: Option<&'a str>,
}

impl Key<'_> {
    /// The folder's name.
    pub fn folder(&self) -> String {
        let mut digest = Sha256::new();
        for hash in self.hashes {
            digest.update(hash.as_bytes());
            digest.update([0]);
        }
        let digest = digest.finalize();
        let graph: String = digest[..8].iter().map(|x| format!("{x:02x}")).collect();
        let tensorrt = self
            .tensorrt
            .map_or("unknown".to_owned(), |x| x.to_string());
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let device: String = self
            .device
            .unwrap_or("unknown")
            .chars()
            .map(plain)
            .collect();
        format!("{graph}-ort{}-trt{tensorrt}-{device}", self.runtime)
    }
}

/// The folder of one graph's engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineCache {
    folder: PathBuf,
}

impl EngineCache {
    /// The cache of `graph`'s engines, if TensorRT is among its `providers` and has a cache.
    pub(super) fn of(
        graph: &GraphFile,
        providers: &[Provider],
        options: &RuntimeOptions,
    ) -> Result<Option<Self>> {
        let tensorrt = providers
            .iter()
            .find_map(|provider| match &provider.settings {
                Settings::Tensorrt(tensorrt) => Some((provider, tensorrt)),
                _ => None,
            });
        let Some((provider, settings)) = tensorrt else {
            return Ok(None);
        };
        let Some(root) = &settings.engine_cache else {
            return Ok(None);
        };
        if probe(provider, options)?.is_err() {
            return Ok(None);
        }
        let device = nvidia::device_name(settings.device_id);
        let key = Key {
            hashes: &graph.hashes,
            runtime: &library::load(options.library.path())?.version,
            tensorrt: nvidia::tensorrt_version(),
            device: device.as_deref(),
        };
        Ok(Some(EngineCache {
            folder: root.join(key.folder()),
        }))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Refuses engines, which are code, that other users may have written, or may yet write.
    fn expect_own(&self) -> Result<()> {
        let root = self.folder.parent().unwrap_or(&self.folder);
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        let entries = entries.flatten().map(|entry| entry.path());
        let folders = [root.to_owned(), self.folder.clone()];
        for place in folders
            .into_iter()
            .chain(entries)
            .filter(|path| path.exists())
        {
            files::expect_own(&place)
                .map_err(|e| Error::runtime(format!("tensorrt.engine_cache: {e}")))?;
        }
        Ok(())
    }

    /// Whether the folder holds no engine yet.
    pub(super) fn is_cold(&self) -> bool {
        let entries = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten();
        let is_engine = |path: PathBuf| path.extension().is_some_and(|ending| ending == "engine");
        !entries.map(|entry| entry.path()).any(is_engine)
    }

    /// Runs `work`, which may build engines. While there is no engine, processes take turns, so that the next one
    /// finds the engine built by the first.
    ///
    /// # Errors
    /// [`Runtime`](crate::error::ErrorKind::Runtime): the folder cannot be written to, or others may have written it.
    pub(super) fn building<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        self.expect_own()?;
        if !self.is_cold() {
            return Ok(work());
        }
        let failed = |e| {
            let place = self.folder.display();
            Error::runtime(format!("tensorrt.engine_cache: cannot write to {place}")).with_source(e)
        };
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        let lock = File::create(self.folder.join(".lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        // The lock is released when the file is closed, also if the process dies.
        Ok(work())
    }
}

/// A note for the user on those of `graphs` that have no engine yet, so that their first run takes minutes, and on the
/// folder that will hold the engines; `None` if all have one.
///
/// # Errors
/// [`Runtime`](crate::error::ErrorKind::Runtime): no library.
pub fn building_note(graphs: &[GraphFile], options: &RuntimeOptions) -> Result<Option<String>> {
    let (mut cold, mut places) = (Vec::new(), Vec::new());
    for graph in graphs {
        let engines = EngineCache::of(graph, options.providers_of(&graph.name), options)?;
        let Some(engines) = engines.filter(EngineCache::is_cold) else {
            continue;
        };
        cold.push(graph.name.as_str());
        let root = engines.folder.parent().unwrap_or(&engines.folder);
        places.push(root.display().to_string());
    }
    places.dedup();
    Ok((!cold.is_empty()).then(|| {
        format!(
            "TensorRT has no engines yet of {}: building one when its graph is first used takes minutes. They are kept in {}",
            cold.join(", "),
            places.join(", ")
        )
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    fn key() -> (Vec<String>, &'static str, Option<i32>, &'static str) {
        let hashes = vec!["ab".to_owned(), "cd".to_owned()];
        (hashes, "1.31.1", Some(101_300), "NVIDIA H100 80GB/HBM3")
    }

    #[test]
    fn every_part_of_the_key_makes_another_folder() {
        let (hashes, runtime, tensorrt, device) = key();
        let of = |hashes: &[String], runtime, tensorrt, device| {
            Key {
                hashes,
                runtime,
                tensorrt,
                device,
            }
            .folder()
        };
        let first = of(&hashes, runtime, tensorrt, Some(device));
        assert_eq!(first, of(&hashes, runtime, tensorrt, Some(device)));
        assert!(
            first.ends_with("-ort1.31.1-trt101300-NVIDIA-H100-80GB-HBM3"),
            "{first}"
        );
        let joined = ["abcd".to_owned()];
        let others = [
            of(&joined, runtime, tensorrt, Some(device)),
            of(&hashes, "1.32.0", tensorrt, Some(device)),
            of(&hashes, runtime, Some(101_400), Some(device)),
            of(&hashes, runtime, tensorrt, Some("NVIDIA L4")),
            of(&hashes, runtime, None, None),
        ];
        assert!(others.iter().all(|other| *other != first), "{others:?}");
    }

    #[test]
    fn one_builds_while_others_wait_and_find_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = EngineCache {
            folder: dir.path().join("key"),
        };
        let (built, twice) = (AtomicBool::new(false), AtomicBool::new(false));
        let build = || {
            if !cache.is_cold() {
                return;
            }
            twice.fetch_or(built.swap(true, Ordering::SeqCst), Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(50));
            std::fs::write(cache.folder.join("graph.engine"), b"engine").unwrap();
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| cache.building(build).unwrap());
            }
        });
        assert!(built.into_inner() && !twice.into_inner());
        assert!(!cache.is_cold());
    }

    #[cfg(unix)]
    #[test]
    fn engines_of_others_are_not_used() {
        use std::fs::{Permissions, set_permissions};
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let cache = EngineCache {
            folder: dir.path().join("key"),
        };
        cache.building(|| ()).unwrap();
        let engine = cache.folder.join("graph.engine");
        std::fs::write(&engine, b"engine").unwrap();
        for (place, own, others) in [
            (engine.as_path(), 0o644, 0o666),
            (cache.folder(), 0o755, 0o777),
            (dir.path(), 0o700, 0o777),
        ] {
            set_permissions(place, Permissions::from_mode(others)).unwrap();
            let error = cache.building(|| ()).unwrap_err().to_string();
            assert!(
                error.contains("others may write to it"),
                "{place:?}: {error}"
            );
            set_permissions(place, Permissions::from_mode(own)).unwrap();
            cache.building(|| ()).unwrap();
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"").unwrap();
        let cache = EngineCache {
            folder: dir.path().join("file/key"),
        };
        let error = cache.building(|| ()).unwrap_err();
        assert!(error.to_string().contains("file/key"), "{error}");
    }
}
