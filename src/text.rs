//! Tokenisation of prompts for CLIP.

use std::path::Path;

use crate::error::{Error, Result};

/// Number of tokens of the text encoder's input, start and end of text included.
pub const CONTEXT_TOKENS: usize = 77;

/// CLIP's byte pair encoding, from a bundle's `tokenizer.json`.
pub struct Tokenizer(tokenizers::Tokenizer);

/// A tokenised prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Start of text, the prompt, end of text, padding with id 0.
    pub ids: [i64; CONTEXT_TOKENS],
    /// Number of the prompt's tokens that did not fit and are cut off.
    pub truncated: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle) if it is missing or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |e: tokenizers::Error| {
            Error::bundle(format!("{}: no usable tokenizer: {e}", path.display()))
        };
        let mut tokenizer = tokenizers::Tokenizer::from_file(path).map_err(failed)?;
        // Truncation to 77 is done here, where the number of truncated tokens is needed.
        tokenizer.with_truncation(None).map_err(failed)?;
        tokenizer.with_padding(None);
        Ok(Tokenizer(tokenizer))
    }

    /// The token ids of `prompt`, truncated or padded to 77.
    ///
    /// Before tokenisation the reference repairs the text with `ftfy`, unescapes HTML twice and folds white space.
    /// Here HTML is unescaped twice, and `tokenizer.json` does the rest except for the repair.
    ///
    /// Source: `SimpleTokenizer`, diffbir/model/open_clip/tokenizer.py at 3f8b530.
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle) if the tokenizer fails.
    pub fn encode(&self, prompt: &str) -> Result<Tokens> {
        let text = htmlize::unescape(prompt);
        let text = htmlize::unescape(text.as_ref());
        let encoding = self
            .0
            .encode(text.as_ref(), true)
            .map_err(|e| Error::bundle(format!("the tokenizer fails on {prompt:?}: {e}")))?;
        let found = encoding.get_ids();
        let mut ids = [0; CONTEXT_TOKENS];
        for (id, &token) in ids.iter_mut().zip(found) {
            *id = i64::from(token);
        }
        if let Some(&end) = found.last()
            && found.len() > CONTEXT_TOKENS
        {
            ids[CONTEXT_TOKENS - 1] = i64::from(end);
        }
        Ok(Tokens {
            ids,
            truncated: found.len().saturating_sub(CONTEXT_TOKENS),
        })
    }
}
