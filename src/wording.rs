//! Errors of typed values in the words of a configuration, without the names of Rust types.

use crate::error::Error;

/// serde's names of what it expected, and how a user would say it.
const EXPECTED: &[(&str, &str)] = &[
    ("usize", "a whole number from 0"),
    ("u64", "a whole number from 0"),
    ("u32", "a whole number from 0"),
    ("u8", "a whole number from 0 to 255"),
    ("i64", "a whole number"),
    ("f64", "a number"),
    ("a boolean", "true or false"),
    ("a string", "text"),
    ("path string", "a path"),
    ("a sequence", "a list"),
    ("a map", "a mapping"),
    ("an array of length 2", "a list of two values"),
];

/// The error of the value at `key`; `said` is serde's message.
pub(crate) fn bad_value(key: &str, said: &str) -> Error {
    let (found, expected) = match said.rsplit_once(", expected ") {
        Some((found, expected)) => (found, plain(expected)),
        None if said.contains("did not match any variant of untagged enum") => {
            return Error::option(format!(
                "{key}: the value is of a kind that is not accepted"
            ));
        }
        None => return Error::option(format!("{key}: {said}")),
    };
    let found = found
        .trim_start_matches("invalid type: ")
        .trim_start_matches("invalid value: ")
        .replace("unknown variant", "unknown value")
        .replace("unit value", "null")
        .replace("floating point ", "")
        .replace("integer ", "");
    Error::option(format!("{key}: {found}, expected {expected}"))
}

fn plain(expected: &str) -> String {
    if expected.starts_with("struct ") {
        return "a mapping".to_owned();
    }
    let known = EXPECTED.iter().find(|(name, _)| *name == expected);
    known.map_or(expected, |(_, plain)| plain).to_owned()
}

#[cfg(test)]
mod tests {
    use super::bad_value;

    #[test]
    fn no_rust_types_are_named() {
        for (said, message) in [
            (
                "invalid type: string \"many\", expected usize",
                "k: string \"many\", expected a whole number from 0",
            ),
            (
                "invalid type: floating point `2.5`, expected u64",
                "k: `2.5`, expected a whole number from 0",
            ),
            (
                "unknown variant `best`, expected one of `exact`, `fast`",
                "k: unknown value `best`, expected one of `exact`, `fast`",
            ),
            (
                "invalid type: unit value, expected f64",
                "k: null, expected a number",
            ),
        ] {
            assert_eq!(bad_value("k", said).to_string(), message);
        }
    }
}
