//! Checks which providers load, and adds them to sessions.

use std::fmt;
use std::sync::Mutex;

use ort::environment::Environment;
use ort::ep::{ArbitrarilyConfigurableExecutionProvider, ExecutionProviderDispatch};
use ort::session::builder::SessionBuilder;

use super::engine_cache::EngineCache;
use super::provider::{Provider, ProviderKind, TensorrtOptions};
use super::{RuntimeOptions, library, needs, plugin};
use crate::error::{Error, Result};

/// Whether a provider loads; the error says why not.
pub type Outcome = std::result::Result<(), String>;

/// A graph without nodes, whose output is a constant, for a session that needs nothing but the provider.
const NOTHING: &[u8] = include_bytes!("nothing.onnx");

/// The providers tried so far, and the outcomes, which do not change while the process lives.
static TRIED: Mutex<Vec<(Provider, Outcome)>> = Mutex::new(Vec::new());

/// An optional provider that does not load and is skipped.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SkippedProvider {
    /// The provider.
    pub provider: ProviderKind,
    /// Why it does not load.
    pub reason: String,
    /// The software that it needs.
    pub remedy: &'static str,
}

impl fmt::Display for SkippedProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "going on without the optional provider `{}`: {}. Needed: {}",
            self.provider, self.reason, self.remedy
        )
    }
}

/// Tries all providers in `options`, and returns the optional ones that do not load.
///
/// # Errors
/// [`Config`](crate::error::ErrorKind::Config): an unsupported option. [`Runtime`](crate::error::ErrorKind::Runtime):
/// no library, or a required provider does not load; the message names the missing library and how to install it.
pub fn check_providers(options: &RuntimeOptions) -> Result<Vec<SkippedProvider>> {
    let mut passed_over = Vec::new();
    for provider in options.all_providers() {
        let Err(reason) = probe(provider, options)? else {
            continue;
        };
        if !provider.optional {
            return Err(refused(provider.kind(), &reason));
        }
        let found = SkippedProvider {
            provider: provider.kind(),
            reason,
            remedy: provider.kind().remedy(),
        };
        if !passed_over.contains(&found) {
            passed_over.push(found);
        }
    }
    Ok(passed_over)
}

fn refused(kind: ProviderKind, reason: &str) -> Error {
    Error::runtime(format!(
        "the provider `{kind}` does not load: {reason}. Needed: {}. Mark it `optional: true` to go on without it",
        kind.remedy()
    ))
}

/// Whether sessions can be created with `provider`, and if not, why. Tried once per process.
///
/// # Errors
/// [`Config`](crate::error::ErrorKind::Config): an unsupported option.
/// [`Runtime`](crate::error::ErrorKind::Runtime): no library.
pub fn probe(provider: &Provider, options: &RuntimeOptions) -> Result<Outcome> {
    provider.check_replay(options.io_binding)?;
    let environment = library::environment(options.library.path())?;
    let loaded = library::load(options.library.path())?;
    let mut tried = TRIED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let same = |(known, _): &&(Provider, Outcome)| {
        (&known.settings, &known.options) == (&provider.settings, &provider.options)
    };
    if let Some((_, outcome)) = tried.iter().find(same) {
        return Ok(outcome.clone());
    }
    let missing = needs::missing(provider.kind(), &loaded.candidate.path);
    let mut outcome = make_session(provider, environment);
    // A library that is opened on first use would be missed only during the first run.
    let is_fatal = needs::are_known_of(&loaded.version) && !missing.is_empty();
    if outcome.is_err() && !missing.is_empty() || is_fatal {
        let list: Vec<String> = missing.iter().map(ToString::to_string).collect();
        outcome = Err(format!("missing {}", list.join(", ")));
    }
    tried.push((provider.clone(), outcome.clone()));
    Ok(outcome)
}

fn make_session(provider: &Provider, environment: &Environment) -> Outcome {
    let words = |e: ort::Error| plain(e.message());
    let builder = ort::session::Session::builder(environment).map_err(words)?;
    // A graph without nodes cannot be captured.
    let mut plain = provider.clone();
    plain.settings.record_nothing();
    let mut builder = append(&plain, None, environment, builder)?;
    builder.commit_from_memory(NOTHING).map(drop).map_err(words)
}

/// ONNX Runtime's message on one line, without the position in ONNX Runtime's sources.
fn plain(message: &str) -> String {
    let start = message.find("Failed to load library").unwrap_or(0);
    let words: Vec<&str> = message[start..].split_whitespace().collect();
    words.join(" ").trim_end_matches('.').to_owned()
}

/// Adds those of `providers` that load to a graph's session, in order. Of two of one kind, the first that loads is
/// used. `engines`: the graph's TensorRT engine cache.
///
/// # Errors
/// [`Runtime`](crate::error::ErrorKind::Runtime): a required provider does not load.
pub(super) fn append_all(
    providers: &[Provider],
    engines: Option<&EngineCache>,
    options: &RuntimeOptions,
    mut builder: SessionBuilder,
) -> Result<SessionBuilder> {
    let environment = library::environment(options.library.path())?;
    let mut given = Vec::new();
    for provider in providers {
        let kind = provider.kind();
        match probe(provider, options)? {
            Err(reason) if !provider.optional => return Err(refused(kind, &reason)),
            Err(_) => {}
            Ok(()) if given.contains(&kind) => {}
            Ok(()) => {
                builder = append(provider, engines, environment, builder)
                    .map_err(|reason| refused(kind, &reason))?;
                given.push(kind);
            }
        }
    }
    Ok(builder)
}

fn append(
    provider: &Provider,
    engines: Option<&EngineCache>,
    environment: &Environment,
    mut builder: SessionBuilder,
) -> std::result::Result<SessionBuilder, String> {
    if let Some(package) = plugin::package(provider.kind()) {
        return plugin::append(provider, package, environment, builder);
    }
    match dispatch(provider, engines).register(&mut builder) {
        Ok(()) => Ok(builder),
        Err(e) => Err(plain(e.message())),
    }
}

fn dispatch(provider: &Provider, engines: Option<&EngineCache>) -> ExecutionProviderDispatch {
    fn with_options<E: ArbitrarilyConfigurableExecutionProvider>(
        ep: E,
        options: impl IntoIterator<Item = (String, String)>,
    ) -> E {
        let set = |ep: E, (key, value): (String, String)| ep.with_arbitrary_config(key, value);
        options.into_iter().fold(ep, set)
    }
    let mut options = provider.ort_options();
    match provider.kind() {
        ProviderKind::Cuda => with_options(ort::ep::CUDA::default(), options).build(),
        ProviderKind::Tensorrt => {
            let own = engines.map(|engines| TensorrtOptions::cache_options(engines.folder()));
            for (key, value) in own.into_iter().flatten() {
                // Options passed through override typed ones.
                if !provider.options.contains_key(key) {
                    options.insert(key.to_owned(), value);
                }
            }
            with_options(ort::ep::TensorRT::default(), options).build()
        }
        ProviderKind::Cpu | ProviderKind::OpenVino | ProviderKind::TensorrtRtx => {
            // Without the arena every activation is allocated from the system anew, page by page.
            ort::ep::CPU::default().with_arena_allocator(true).build()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_about_the_library() {
        let message = "/src/provider_bridge_ort.cc:2043 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library /x/a.so with \
                       error: libb.so.13: cannot open shared object file: No such file or directory\n";
        assert_eq!(
            plain(message),
            "Failed to load library /x/a.so with error: libb.so.13: cannot open shared object file: No such file or directory"
        );
        assert_eq!(plain("CUDA is not enabled."), "CUDA is not enabled");
    }

    #[test]
    fn refusals_say_what_to_do() {
        let error = refused(ProviderKind::OpenVino, "missing x").to_string();
        for part in ["`openvino`", "missing x", "--openvino", "optional: true"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
