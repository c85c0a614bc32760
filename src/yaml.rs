//! Parsing untrusted YAML, bounded in size, nesting and parsing time.

use serde_yaml::Value;

use crate::error::{Error, Result};

/// The largest YAML file that is read, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// The deepest nesting of mappings and lists.
pub const MAX_DEPTH: usize = 64;

/// The parser checks every open `[` and `{` at every token, so its work may grow with their product. Bundles need a
/// thousandth of this.
const MAX_WORK: usize = 1 << 30;

/// Parses one document.
///
/// # Errors
/// [`Config`](crate::error::ErrorKind::Config): invalid YAML, a duplicate key (named), more than [`MAX_BYTES`], nested
/// deeper than [`MAX_DEPTH`], or with more opening brackets than its size allows.
pub fn parse(text: &str) -> Result<Value> {
    if text.len() as u64 > MAX_BYTES {
        return Err(Error::config(format!(
            "not valid YAML: {} bytes, at most {MAX_BYTES} are read",
            text.len()
        )));
    }
    // Quoted brackets are counted too: an upper bound is enough.
    let brackets = text.bytes().filter(|byte| b"[{".contains(byte)).count();
    if brackets * text.len() > MAX_WORK {
        return Err(Error::config(format!(
            "not valid YAML: {brackets} opening brackets in {} bytes are too many; write lists and mappings in lines of \
             their own",
            text.len()
        )));
    }
    let value: Value =
        serde_yaml::from_str(text).map_err(|e| Error::config(format!("not valid YAML: {e}")))?;
    if depth(&value) > MAX_DEPTH {
        return Err(Error::config(format!(
            "not valid YAML: nested deeper than {MAX_DEPTH} levels"
        )));
    }
    Ok(value)
}

/// The parser itself stops at 128 levels, so that this recursion is bounded.
fn depth(value: &Value) -> usize {
    match value {
        Value::Sequence(list) => 1 + list.iter().map(depth).max().unwrap_or_default(),
        Value::Mapping(map) => {
            let pair = |(key, value)| depth(key).max(depth(value));
            1 + map.iter().map(pair).max().unwrap_or_default()
        }
        Value::Tagged(tagged) => 1 + depth(&tagged.value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn deep_nesting_is_refused_in_every_style() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(&nested(64)).is_ok());
        assert!(refused(&nested(65)).contains("nested deeper than 64"));
        assert!(refused(&nested(1000)).contains("recursion limit"));
        assert!(refused(&format!("{}1", "- ".repeat(65))).contains("nested deeper than 64"));
        assert!(refused(&format!("{}1", "- ".repeat(400_000))).contains("recursion limit"));
    }

    #[test]
    fn work_is_bounded_before_parsing() {
        assert!(refused(&"{a: ".repeat(100_000)).contains("100000 opening brackets"));
        // Brackets whose closing ones are quoted.
        assert!(refused(&r#"{"}": "#.repeat(100_000)).contains("opening brackets"));
        assert!(refused(&"#".repeat(MAX_BYTES as usize + 1)).contains("at most 1048576"));
    }

    #[test]
    fn a_key_twice_is_named() {
        let text = refused("a:\n  seed: 1\n  seed: 2\n");
        assert!(text.contains("seed"), "{text}");
        assert!(text.contains("duplicate"), "{text}");
    }

    #[test]
    fn what_is_sound_is_read() {
        let value = parse("a: [1, {b: \"[\"}]").unwrap();
        assert_eq!(value["a"][1]["b"], Value::String("[".to_owned()));
        assert_eq!(parse("").unwrap(), Value::Null);
    }
}
