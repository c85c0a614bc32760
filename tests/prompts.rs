//! Prompts as token ids, against OpenAI's tokenizer. The ids lie beside the script that made them.
//!
//! Needs a `tokenizer.json` as the exporter writes it (`DIFFBIR_TOKENIZER`; `tests/run.sh` makes one).

#![allow(clippy::unwrap_used)]

use std::path::Path;

use diffbir::text::{CONTEXT_TOKENS, Tokenizer};
use serde_json::Value;

/// Prompts with text that was decoded wrongly or holds control characters: the reference repairs it with ftfy, the
/// engine does not.
const UNREPAIRED: usize = 2;

#[test]
fn ids_are_those_of_the_reference() {
    let Some(path) = std::env::var_os("DIFFBIR_TOKENIZER") else {
        eprintln!("SKIPPED: no DIFFBIR_TOKENIZER, tests/run.sh makes one");
        return;
    };
    let tokenizer = Tokenizer::open(Path::new(&path)).unwrap();
    let goldens: Value =
        serde_json::from_str(include_str!("goldens/clip_tokens/clip_tokens.json")).unwrap();
    let cases = goldens["cases"].as_array().unwrap();
    let mut different = Vec::new();
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let tokens = tokenizer.encode(text).unwrap();
        let expected = case["ids"].as_array().unwrap();
        assert_eq!(expected.len(), CONTEXT_TOKENS);
        let same = expected
            .iter()
            .map(|id| id.as_i64().unwrap())
            .eq(tokens.ids);
        if same {
            assert_eq!(tokens.truncated > 0, case["truncated"] == true, "{text:?}");
        } else {
            different.push(text);
        }
    }
    assert!(cases.len() >= 30);
    assert_eq!(different.len(), UNREPAIRED, "{different:#?}");
}

#[test]
fn a_file_that_is_no_tokenizer_is_a_bundle_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    std::fs::write(&path, "{}").unwrap();
    let error = Tokenizer::open(&path).err().unwrap();
    assert_eq!(error.kind(), diffbir::error::ErrorKind::Bundle);
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}
