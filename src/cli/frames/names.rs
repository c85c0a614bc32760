//! Names of the frames of a sequence, which differ in one number only.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Most gaps that are listed.
const NAMED_GAPS: usize = 6;

/// The common parts of a sequence's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// Before the number.
    before: String,
    /// After the number, without the extension.
    after: String,
}

impl Naming {
    /// The naming of `paths`.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), naming two that do not belong to one sequence, or one without a
    /// number.
    pub fn of(paths: &[&Path]) -> Result<Self> {
        let names: Vec<Name<'_>> = paths
            .iter()
            .map(|path| Name::of(path))
            .collect::<Result<_>>()?;
        let Some((first, others)) = names.split_first() else {
            return Err(Error::option("a sequence without frames"));
        };
        let mut place = None;
        for other in others {
            match first.difference(other) {
                Some(at) if *place.get_or_insert(at) == at => {}
                _ => return Err(strangers(first, other)),
            }
        }
        // For a single frame: the last number, where programs count.
        let last = || first.parts.iter().rposition(|part| is_number(part));
        let place = place
            .or_else(last)
            .ok_or_else(|| without_number(first.path))?;
        Ok(Naming {
            before: first.parts[..place].concat(),
            after: first.parts[place + 1..].concat(),
        })
    }

    /// The number in the name of the frame at `path`.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) for a number that is too large.
    pub fn number(&self, path: &Path) -> Result<u64> {
        let stem = text_of(path.file_stem());
        let digits =
            stem.and_then(|stem| stem.strip_prefix(&self.before)?.strip_suffix(&self.after));
        let digits = digits.ok_or_else(|| without_number(path))?;
        digits.parse().map_err(|e| {
            Error::option(format!("{}: {digits} is no frame's number", path.display()))
                .with_source(e)
        })
    }
}

/// A frame's name, split into numbers and text.
struct Name<'a> {
    path: &'a Path,
    folder: PathBuf,
    /// Alternating text and numbers.
    parts: Vec<&'a str>,
    ending: &'a str,
}

impl<'a> Name<'a> {
    fn of(path: &'a Path) -> Result<Self> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let named = || Error::option(format!("{}: a frame's name is text", path.display()));
        Ok(Name {
            path,
            folder: parent.canonicalize().unwrap_or_else(|_| parent.to_owned()),
            parts: parts(text_of(path.file_stem()).ok_or_else(named)?),
            ending: text_of(path.extension()).unwrap_or_default(),
        })
    }

    /// Position of the only number in which `other` differs; `None` if more differs, or nothing.
    fn difference(&self, other: &Self) -> Option<usize> {
        let alike = self.folder == other.folder
            && self.ending == other.ending
            && self.parts.len() == other.parts.len();
        let pairs = || self.parts.iter().zip(&other.parts);
        let mut places = pairs().enumerate().filter(|(_, (one, two))| one != two);
        match (alike, places.next(), places.next()) {
            (true, Some((at, (one, two))), None) if is_number(one) && is_number(two) => Some(at),
            _ => None,
        }
    }
}

fn text_of(part: Option<&OsStr>) -> Option<&str> {
    part.and_then(OsStr::to_str)
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits before and after each number.
fn parts(stem: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = stem;
    while let Some(first) = rest.chars().next() {
        let changes = |c: char| c.is_ascii_digit() != first.is_ascii_digit();
        let (part, behind) = rest.split_at(rest.find(changes).unwrap_or(rest.len()));
        parts.push(part);
        rest = behind;
    }
    parts
}

fn strangers(one: &Name<'_>, two: &Name<'_>) -> Error {
    Error::option(format!(
        "{} and {} are not frames of one sequence: with --frames all inputs lie in one folder and their names \
         differ in one number alone",
        one.path.display(),
        two.path.display()
    ))
}

fn without_number(path: &Path) -> Error {
    Error::option(format!("{}: no number in the frame's name", path.display()))
}

/// The gaps in ascending `numbers`, in words.
pub fn gaps(numbers: &[u64]) -> Option<String> {
    let pairs = || {
        let pairs = numbers.iter().zip(numbers.iter().skip(1));
        pairs.filter(|(one, two)| *two - *one > 1)
    };
    let missing: u64 = pairs().map(|(one, two)| two - one - 1).sum();
    let named = pairs().take(NAMED_GAPS).map(|(one, two)| match two - one {
        2 => (one + 1).to_string(),
        _ => format!("{} to {}", one + 1, two - 1),
    });
    let mut list: Vec<String> = named.collect();
    if pairs().nth(NAMED_GAPS).is_some() {
        list.push("…".to_owned());
    }
    let ends = numbers.first().zip(numbers.last()).filter(|_| missing > 0);
    ends.map(|(first, last)| {
        format!(
            "the sequence from {first} to {last} has gaps: {} ({missing} missing)",
            list.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(names: &[&str]) -> Result<Naming> {
        let paths: Vec<&Path> = names.iter().map(Path::new).collect();
        Naming::of(&paths)
    }

    #[test]
    fn the_number_is_what_differs_else_the_last_one() {
        for (names, pattern, numbers) in [
            (&["f_0009.png", "f_0010.png"][..], "f_#", &[9, 10][..]),
            (&["img9.jpg", "img10.jpg"], "img#", &[9, 10]),
            (&["4x_2_of_9.png", "4x_3_of_9.png"], "4x_#_of_9", &[2, 3]),
            (&["take2_07.png"], "take2_#", &[7]),
            (&["1.png", "2.png"], "#", &[1, 2]),
        ] {
            let naming = naming(names).unwrap();
            assert_eq!(format!("{}#{}", naming.before, naming.after), pattern);
            let found = names
                .iter()
                .map(|name| naming.number(Path::new(name)).unwrap());
            assert_eq!(found.collect::<Vec<_>>(), numbers);
        }
    }

    #[test]
    fn strangers_are_refused() {
        for names in [
            &["f_1.png", "g_2.png"][..],
            &["f_1.png", "f_2.jpg"],
            &["f_1_1.png", "f_2_2.png"],
            &["f_1_1.png", "f_2_1.png", "f_1_2.png"],
            &["f_1.png", "cover.png"],
            &["/a/f_1.png", "/b/f_2.png"],
            &["cover.png"],
        ] {
            assert!(naming(names).is_err(), "{names:?}");
        }
        let long = "f_123456789012345678901.png";
        assert!(naming(&[long]).unwrap().number(Path::new(long)).is_err());
    }

    #[test]
    fn gaps_are_counted() {
        assert_eq!(gaps(&[3, 4, 5]), None);
        assert_eq!(gaps(&[]), None);
        let said = gaps(&[1, 3, 4, 8]).unwrap();
        assert_eq!(
            said,
            "the sequence from 1 to 8 has gaps: 2, 5 to 7 (4 missing)"
        );
        let said = gaps(&(0..20).map(|i| i * 2).collect::<Vec<_>>()).unwrap();
        assert!(said.contains("9, 11, … (19 missing)"), "{said}");
    }
}
