//! From prompts to prompt embeddings: precomputed ones, and those of the text encoder.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::files::read_file;
use crate::nets::cldm::Context;
use crate::nets::contract::GraphKind;
use crate::nets::{Networks, text};
use crate::text::{Tokenizer, Tokens};

/// Maximum number of cached embeddings (300 kB each at full size): with captions their number is unbounded.
const KEPT: usize = 64;

/// The prompt embeddings of a bundle, with a cache of recent ones.
#[derive(Default)]
pub struct Prompts {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    contexts: HashMap<String, Context>,
    tokenizer: Option<Tokenizer>,
}

/// A prompt with an embedding, or with tokens for the text encoder.
#[derive(Debug, Clone)]
pub struct Prompt {
    text: String,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Ready(Context),
    Tokenised(Box<Tokens>),
}

impl Prompt {
    /// Number of its tokens that are cut off, because there are more than 75.
    pub fn truncated(&self) -> usize {
        match &self.state {
            State::Ready(_) => 0,
            State::Tokenised(tokens) => tokens.truncated,
        }
    }

    /// Whether the text encoder has to run for it.
    pub fn needs_encoder(&self) -> bool {
        matches!(self.state, State::Tokenised(_))
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Prompts {
    /// Looks up the embedding of the prompt `text` in the cache and in `bundle`, else tokenises it. Loads no graph.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): the bundle has neither an embedding for it nor a text encoder.
    /// [`Bundle`](crate::error::ErrorKind::Bundle): its files are damaged.
    pub fn find(&self, bundle: &Bundle, text: &str) -> Result<Prompt> {
        let mut known = self.known();
        let context = match known.contexts.get(text) {
            Some(context) => Some(context.clone()),
            None => bundle.context(text)?,
        };
        let state = match context {
            Some(context) => {
                known.keep(text, &context);
                State::Ready(context)
            }
            None => State::Tokenised(Box::new(known.tokenise(bundle, text)?)),
        };
        Ok(Prompt {
            text: text.to_owned(),
            state,
        })
    }

    /// The embedding of `prompt`, from the text encoder `graph` if necessary.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn context(
        &self,
        prompt: &Prompt,
        networks: &mut dyn Networks,
        graph: &str,
    ) -> Result<Context> {
        let tokens = match &prompt.state {
            State::Ready(context) => return Ok(context.clone()),
            State::Tokenised(tokens) => tokens,
        };
        if let Some(context) = self.known().contexts.get(&prompt.text) {
            return Ok(context.clone());
        }
        let context = text::encode(networks.get(graph)?, tokens)?;
        self.known().keep(&prompt.text, &context);
        Ok(context)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn keep(&mut self, text: &str, context: &Context) {
        if self.contexts.len() >= KEPT && !self.contexts.contains_key(text) {
            self.contexts.clear();
        }
        self.contexts.insert(text.to_owned(), context.clone());
    }

    fn tokenise(&mut self, bundle: &Bundle, text: &str) -> Result<Tokens> {
        let (Some(path), Ok(_)) = (bundle.tokenizer(), bundle.graph_of(GraphKind::TextEncoder))
        else {
            let prompts = bundle.manifest().contexts.iter().flat_map(|c| &c.prompts);
            let served: Vec<String> = prompts.map(|e| format!("{:?}", e.prompt)).collect();
            return Err(Error::option(format!(
                "prompt {text:?}: this bundle has no text encoder; the prompts it can serve are {}",
                served.join(", ")
            )));
        };
        if self.tokenizer.is_none() {
            self.tokenizer = Some(Tokenizer::open(&path)?);
        }
        match &self.tokenizer {
            Some(tokenizer) => tokenizer.encode(text),
            None => Err(Error::internal("the tokenizer is gone")),
        }
    }
}

/// Maximum size of a caption in bytes; a prompt has 77 tokens.
const MAX_CAPTION: u64 = 1 << 20;

/// Puts the caption of the picture at `path`, from its sidecar `NAME.txt` and joined to one line, before `prompt`.
/// Without a sidecar, or with an empty one, `prompt` is unchanged.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input) if the sidecar cannot be read or is not a regular file.
pub fn put_caption(path: &Path, prompt: &mut String) -> Result<()> {
    let path = path.with_extension("txt");
    let message = || format!("cannot read the caption {}", path.display());
    let bytes = match read_file(&path, MAX_CAPTION) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::input(message()).with_source(e)),
    };
    let text = decoded(&bytes)
        .ok_or_else(|| Error::input(message() + ": it is text neither in UTF-8 nor in UTF-16"))?;
    let caption = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = [caption.as_str(), prompt.as_str()];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    *prompt = parts.join(", ");
    Ok(())
}

/// Text in UTF-8, or in UTF-16 with a byte order mark, as editors on Windows write it.
fn decoded(bytes: &[u8]) -> Option<String> {
    let units = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = rest.as_chunks().0.iter().map(|&x| unit(x)).collect();
        String::from_utf16(&units).ok()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        _ => String::from_utf8(bytes.to_vec()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_of_windows_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let text: Vec<u8> = "\u{feff}Ein Bär"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for bytes in [text, "\u{feff}Ein Bär".as_bytes().to_vec()] {
            std::fs::write(dir.path().join("a.txt"), bytes).unwrap();
            let mut prompt = String::new();
            put_caption(&dir.path().join("a.png"), &mut prompt).unwrap();
            assert_eq!(prompt, "Ein Bär");
        }
        std::fs::write(dir.path().join("a.txt"), b"\xffB\xe4r").unwrap();
        assert!(put_caption(&dir.path().join("a.png"), &mut String::new()).is_err());
    }

    #[test]
    fn a_caption_goes_before_the_prompt() {
        let dir = tempfile::tempdir().unwrap();
        let with_caption = |text: Option<&str>, prompt: &str| {
            if let Some(text) = text {
                std::fs::write(dir.path().join("a.txt"), text).unwrap();
            }
            let mut prompt = prompt.to_owned();
            put_caption(&dir.path().join("a.jpg"), &mut prompt).unwrap();
            prompt
        };
        assert_eq!(with_caption(None, "sharp"), "sharp");
        assert_eq!(
            with_caption(Some(" a cat\n on a mat \n"), "sharp"),
            "a cat on a mat, sharp"
        );
        assert_eq!(with_caption(None, ""), "a cat on a mat");
        assert_eq!(with_caption(Some(" \n"), "sharp"), "sharp");
    }
}
