//! Sizes in bytes, and the memory of machine and process.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// A number of bytes, written with a unit: `8GiB`, `500MB`, `4096B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Units in lower case.
const UNITS: &[(&str, u64)] = &[
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

/// Numbers without a unit are refused below this value: they were probably meant in another unit.
const SMALLEST_PLAIN: u64 = 1 << 20;

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let unit = text[digits.len()..].trim().to_ascii_lowercase();
        let found = UNITS.iter().find(|(name, _)| *name == unit);
        let number = digits.parse::<f64>().ok();
        let number = number.filter(|x| x.is_finite() && *x > 0.0);
        match (number, found) {
            (Some(number), Some((_, unit))) => Ok(Bytes((number * *unit as f64) as u64)),
            (Some(_), None) if unit.is_empty() => Err(without_unit(text)),
            _ => Err(Error::option(format!(
                "`{text}` is no size, expected a number above 0 with a unit (B, kB, MB, GB, KiB, MiB or GiB), such as 8GiB"
            ))),
        }
    }
}

fn without_unit(text: &str) -> Error {
    Error::option(format!("`{text}` has no unit: did you mean {text}GiB?"))
}

impl fmt::Display for Bytes {
    /// In MiB or GiB, rounded up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        match self.0.div_ceil(MIB) {
            mib if mib < 10 * 1024 => write!(f, "{mib}MiB"),
            mib => write!(f, "{:.1}GiB", (mib as f64 / 102.4).ceil() / 10.0),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let bytes = match Written::deserialize(deserializer)? {
            Written::Number(bytes) if bytes < SMALLEST_PLAIN => {
                Err(without_unit(&bytes.to_string()))
            }
            Written::Number(bytes) => Ok(Bytes(bytes)),
            Written::Text(text) => text.parse(),
        };
        bytes.map_err(serde::de::Error::custom)
    }
}

/// Upper limit for byte counts from external files, above any machine's memory, so that sums of a few do not overflow.
pub const MAX_COUNTED: u64 = 1 << 56;

/// Bytes that this process may still allocate: memory that is free or can be freed, within the limit of the process's
/// control group. `None` if the system does not report it.
pub fn available() -> Option<u64> {
    let free = field("/proc/meminfo", "MemAvailable:")?;
    let group = |file: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?;
        text.trim().parse().ok()
    };
    let left = group("memory.max").zip(group("memory.current"));
    Some(left.map_or(free, |(most, now)| free.min(most.saturating_sub(now))))
}

/// Bytes of memory that this process holds now (resident set). `None` if the system does not report it.
pub fn resident() -> Option<u64> {
    field("/proc/self/status", "VmRSS:")
}

/// The peak of the resident set. `None` if the system does not report it.
pub fn peak() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// Restarts the count of [`peak`], if the system supports it.
pub fn forget_peak() {
    // If this fails, the peak is that of the whole process: too high, which is the safe side.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A field of one of the kernel's tables, which are in KiB.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [
            ("8GiB", 8 << 30),
            ("1.5 MB", 1_500_000),
            ("8gb", 8_000_000_000),
            ("4096B", 4096),
            ("512B", 512),
        ] {
            assert_eq!(text.parse::<Bytes>().unwrap(), Bytes(bytes), "{text}");
        }
        for text in ["", "GiB", "8 GiBi", "-1MB", "0B", "8", "nan", "1e400"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        assert_eq!(Bytes(1).to_string(), "1MiB");
        assert_eq!(Bytes(20 << 30).to_string(), "20.0GiB");
        let read: Bytes = serde_json::from_str("\"2KiB\"").unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), "2048");
        let message = "8".parse::<Bytes>().unwrap_err().to_string();
        assert_eq!(message, "`8` has no unit: did you mean 8GiB?");
        assert!(serde_json::from_str::<Bytes>("8").is_err());
        assert_eq!(
            serde_json::from_str::<Bytes>("8589934592").unwrap(),
            Bytes(8 << 30)
        );
    }
}
