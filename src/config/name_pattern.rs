//! The pattern of results' names, such as `{name}_x{scale}`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{self, Error, Result};
use crate::imageio::Format;

/// Most digits that a number is padded to.
const MAX_DIGITS: usize = 20;

/// What a field of a pattern stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The input's name without its ending.
    Name,
    /// The input's ending, without the dot.
    Ext,
    /// Number of the input in this run, from 1.
    Index,
    /// Number of the sample, from 0.
    Sample,
    /// Seed of the sample.
    Seed,
    /// Output size over input size.
    Scale,
    /// The result's size, `WIDTHxHEIGHT`.
    Size,
    /// The task.
    Task,
}

/// Every field as typed.
const FIELDS: [(&str, Field); 8] = [
    ("name", Field::Name),
    ("ext", Field::Ext),
    ("index", Field::Index),
    ("sample", Field::Sample),
    ("seed", Field::Seed),
    ("scale", Field::Scale),
    ("size", Field::Size),
    ("task", Field::Task),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// With the number of digits that it is padded to.
    Field(Field, usize),
}

/// A pattern of names: text and fields in braces. `{index:4}` pads a number to four digits; `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    parts: Vec<Part>,
}

impl NamePattern {
    /// Whether the pattern has `field`.
    pub fn has(&self, field: Field) -> bool {
        let is = |part: &Part| matches!(part, Part::Field(found, _) if *found == field);
        self.parts.iter().any(is)
    }

    /// The name, with `value` for each field.
    pub fn name(&self, value: impl Fn(Field) -> OsString) -> OsString {
        let mut name = OsString::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push(text),
                Part::Field(field, digits) => {
                    let value = value(*field);
                    let missing = digits.saturating_sub(value.len());
                    name.push("0".repeat(missing));
                    name.push(value);
                }
            }
        }
        name
    }
}

impl FromStr for NamePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::option(format!("`{text}` is no pattern of names: {why}"));
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '{' | '}' if rest.starts_with(c) => {
                    plain.push(c);
                    rest = &rest[1..];
                }
                '{' => {
                    let (field, behind) = rest.split_once('}').ok_or_else(|| {
                        wrong("a `{` without its `}`; a brace itself is `{{`".to_owned())
                    })?;
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(field_of(field).map_err(wrong)?);
                    rest = behind;
                }
                '}' => {
                    return Err(wrong(
                        "a `}` without its `{`; a brace itself is `}}`".to_owned(),
                    ));
                }
                '/' | '\\' | '\0' => {
                    return Err(wrong(
                        "it names files, not folders: leave out `/` and `\\`".to_owned(),
                    ));
                }
                c => plain.push(c),
            }
        }
        if let Some(format) = Format::of_name(format!("a{plain}").as_ref()) {
            return Err(wrong(format!(
                "leave out the ending; --format {} chooses it",
                format.name()
            )));
        }
        parts.push(Part::Text(plain));
        match text.trim() {
            "" => Err(wrong("it is empty".to_owned())),
            _ => Ok(NamePattern {
                text: text.to_owned(),
                parts,
            }),
        }
    }
}

/// A field as typed, with its digits.
fn field_of(typed: &str) -> std::result::Result<Part, String> {
    let (name, digits) = typed.split_once(':').unwrap_or((typed, "0"));
    let known = || FIELDS.iter().map(|(name, _)| *name);
    let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) else {
        let list: Vec<String> = known().map(|name| format!("{{{name}}}")).collect();
        return Err(format!(
            "unknown field {{{name}}}: did you mean {{{}}}? The fields are {}",
            error::nearest(name, known()),
            list.join(", ")
        ));
    };
    let digits = digits.parse().ok().filter(|digits| *digits <= MAX_DIGITS);
    let is_number = matches!(field, Field::Index | Field::Sample | Field::Seed);
    match digits {
        Some(digits) if is_number || digits == 0 => Ok(Part::Field(*field, digits)),
        _ => Err(format!(
            "{{{typed}}}: numbers alone are padded, to at most {MAX_DIGITS} digits, as in {{index:4}}"
        )),
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for NamePattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for NamePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A number without trailing zeros, with at most two decimals.
pub fn short(number: f64) -> OsString {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    OsStr::new(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_in_and_others_are_refused() {
        let name = |pattern: &str| {
            let pattern: NamePattern = pattern.parse().unwrap();
            let value = |field| match field {
                Field::Name => OsString::from("a.b"),
                Field::Index => OsString::from("7"),
                _ => short(2.5),
            };
            pattern.name(value).into_string().unwrap()
        };
        assert_eq!(name("{name}_x{scale}"), "a.b_x2.5");
        assert_eq!(name("{index:4}"), "0007");
        assert_eq!(name("{{{name}}}"), "{a.b}");
        assert_eq!(short(4.0), "4");
        assert_eq!(short(10.0), "10");
        assert_eq!(short(1.0 / 3.0), "0.33");
        for (pattern, said) in [
            (
                "{nmae}",
                "did you mean {name}? The fields are {name}, {ext}",
            ),
            ("{name", "without its `}`"),
            ("name}", "without its `{`"),
            ("{name}_x4.png", "leave out the ending; --format png"),
            ("a/{name}", "names files, not folders"),
            ("{name:4}", "numbers alone are padded"),
            ("{index:99}", "at most 20 digits"),
            (" ", "it is empty"),
        ] {
            let error = pattern.parse::<NamePattern>().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
