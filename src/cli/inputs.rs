//! Which pictures are restored, and where each result goes: decided in full before any work starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::Existing;
use crate::error::{Error, Result};

/// File endings that a folder is searched for; a file that is named is read whatever its ending.
const ENDINGS: &[&str] = &["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp"];

/// One picture's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The low-quality picture.
    pub input: PathBuf,
    /// The PNG that is written.
    pub output: PathBuf,
    /// Whether the result exists and is to be left as it is.
    pub skip: bool,
}

/// The jobs of a run, in the order of the inputs.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): nothing to do, two inputs with one result, a result that is an input,
/// or one that exists and may not be replaced.
pub fn plan(
    inputs: &[String],
    output: &Path,
    recursive: bool,
    existing: Existing,
) -> Result<Vec<Job>> {
    let found = expand(inputs, recursive)?;
    let mut jobs = match found.as_slice() {
        [] => {
            return Err(Error::option(format!(
                "no pictures found in {}",
                inputs.join(", ")
            )));
        }
        [one] if names_a_file(output)? => {
            vec![Job {
                input: one.path.clone(),
                output: output.to_owned(),
                skip: false,
            }]
        }
        many if names_a_file(output)? => {
            return Err(Error::option(format!(
                "{} inputs cannot go into one file {}: name a folder",
                many.len(),
                output.display()
            )));
        }
        many => many.iter().map(|found| in_folder(found, output)).collect(),
    };
    refuse_collisions(&jobs)?;
    for job in &mut jobs {
        if !job.output.exists() {
            continue;
        }
        match existing {
            Existing::Overwrite => {}
            Existing::Skip => job.skip = true,
            Existing::Refuse => {
                return Err(Error::option(format!(
                    "{} exists: choose --overwrite or --skip-existing",
                    job.output.display()
                )));
            }
        }
    }
    Ok(jobs)
}

/// A picture and the folder, relative to the output, that its result goes to.
struct Found {
    path: PathBuf,
    folder: PathBuf,
}

fn expand(inputs: &[String], recursive: bool) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        if path.is_dir() {
            search(path, Path::new(""), recursive, &mut found)?;
        } else if !path.exists() && input.contains(['*', '?', '[']) {
            let paths = glob::glob(input)
                .map_err(|e| Error::option(format!("`{input}` is no pattern")).with_source(e))?;
            let files = paths
                .filter_map(std::result::Result::ok)
                .filter(|path| path.is_file());
            found.extend(files.map(|path| Found {
                path,
                folder: PathBuf::new(),
            }));
        } else {
            // A file that is not there is reported with the others that fail, so that the rest is done.
            found.push(Found {
                path: path.to_owned(),
                folder: PathBuf::new(),
            });
        }
    }
    Ok(found)
}

fn search(dir: &Path, folder: &Path, recursive: bool, found: &mut Vec<Found>) -> Result<()> {
    let unreadable = |e| Error::input(format!("cannot list {}", dir.display())).with_source(e);
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(unreadable)?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if recursive && let Some(name) = path.file_name() {
                search(&path, &folder.join(name), recursive, found)?;
            }
        } else if is_picture(&path) {
            found.push(Found {
                path,
                folder: folder.to_owned(),
            });
        }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// Whether `output` is meant as a file: it ends in `.png` and is no folder.
fn names_a_file(output: &Path) -> Result<bool> {
    if output.is_dir() {
        return Ok(false);
    }
    match output
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase())
    {
        Some(ending) if ending == "png" => Ok(true),
        Some(ending) if ENDINGS.contains(&ending.as_str()) => Err(Error::option(format!(
            "{}: results are written as PNG; name it .png",
            output.display()
        ))),
        _ => Ok(false),
    }
}

fn in_folder(found: &Found, output: &Path) -> Job {
    let stem = found.path.file_stem().unwrap_or_default();
    let mut name = stem.to_os_string();
    name.push(".png");
    Job {
        input: found.path.clone(),
        output: output.join(&found.folder).join(name),
        skip: false,
    }
}

fn refuse_collisions(jobs: &[Job]) -> Result<()> {
    let mut writers: BTreeMap<&Path, &Path> = BTreeMap::new();
    for job in jobs {
        if let Some(other) = writers.insert(&job.output, &job.input) {
            return Err(Error::option(format!(
                "{} and {} would both be written to {}",
                other.display(),
                job.input.display(),
                job.output.display()
            )));
        }
        if let (Ok(input), Ok(output)) = (job.input.canonicalize(), job.output.canonicalize())
            && input == output
        {
            return Err(Error::option(format!(
                "{} would be replaced by its own result",
                job.input.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"").unwrap();
        path.to_string_lossy().into_owned()
    }

    #[test]
    fn two_inputs_with_one_result_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = [touch(dir.path(), "a.jpg"), touch(dir.path(), "a.png")];
        let error = plan(&inputs, &dir.path().join("out"), false, Existing::Refuse).unwrap_err();
        assert!(
            error.to_string().contains("would both be written"),
            "{error}"
        );
    }

    #[test]
    fn folders_keep_their_shape() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["in/b.JPG", "in/a.png", "in/sub/a.webp", "in/notes.txt"] {
            touch(dir.path(), name);
        }
        let input = [dir.path().join("in").to_string_lossy().into_owned()];
        let outputs = |recursive| -> Vec<PathBuf> {
            let jobs = plan(&input, Path::new("out"), recursive, Existing::Refuse).unwrap();
            jobs.into_iter().map(|job| job.output).collect()
        };
        assert_eq!(
            outputs(false),
            [Path::new("out/a.png"), Path::new("out/b.png")]
        );
        assert_eq!(
            outputs(true),
            ["out/a.png", "out/b.png", "out/sub/a.png"].map(PathBuf::from)
        );
    }

    #[test]
    fn an_existing_result_is_refused_skipped_or_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let input = [touch(dir.path(), "a.jpg")];
        let output = PathBuf::from(touch(dir.path(), "r.png"));
        assert!(plan(&input, &output, false, Existing::Refuse).is_err());
        assert!(plan(&input, &output, false, Existing::Skip).unwrap()[0].skip);
        assert!(!plan(&input, &output, false, Existing::Overwrite).unwrap()[0].skip);
        let own = [output.to_string_lossy().into_owned()];
        assert!(plan(&own, &output, false, Existing::Overwrite).is_err());
    }
}
