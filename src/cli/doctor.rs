//! `diffbir doctor`: reports the library, the providers that load, the provider of each graph, and reasons of failures.

mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bundle::Bundle;
use crate::cli::args::Doctor;
use crate::cli::report::Reporter;
use crate::cli::say;
use crate::error::{Error, Result};
use crate::files::to_text;
use crate::runtime::{
    self, Loaded, Provider, ProviderKind, RuntimeOptions, Session, library, telemetry,
};
use crate::service::{Host, Level, bundles, startup};

/// The facts that the command reports.
#[derive(Debug, Default, Serialize)]
struct Facts {
    version: &'static str,
    candidates: Vec<Candidate>,
    notes: Vec<String>,
    library: Option<Library>,
    telemetry: bool,
    providers: Vec<ProviderFacts>,
    devices: Vec<library::DeviceInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    graphs: Vec<GraphFacts>,
    verdict: Verdict,
}

/// Whether restorations work, and what to do first if not.
#[derive(Debug, Default, Serialize)]
#[serde(tag = "state", content = "first", rename_all = "snake_case")]
enum Verdict {
    #[default]
    Works,
    WorksWithWarnings(String),
    WillNotRun(String),
}

#[derive(Debug, Serialize)]
struct Candidate {
    path: String,
    origin: String,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Library {
    Loaded {
        path: String,
        origin: String,
        version: String,
        build: String,
    },
    Missing {
        error: String,
    },
}

#[derive(Debug, Serialize)]
struct ProviderFacts {
    provider: ProviderKind,
    configured: bool,
    optional: bool,
    loads: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    reason: String,
    remedy: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum GraphFacts {
    Loaded {
        graph: String,
        provider: String,
        nodes: BTreeMap<String, usize>,
        copies: usize,
    },
    Failed {
        graph: String,
        error: String,
    },
}

/// Collects the notes of the library search, and installs as the program does.
struct Notes<'a> {
    reporter: &'a Reporter,
    notes: std::sync::Mutex<Vec<String>>,
}

impl Host for Notes<'_> {
    fn note(&self, _: Level, message: &str) {
        let notes = self.notes.lock();
        notes
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(message.to_owned());
    }

    fn install_runtime(&self) -> Result<bool> {
        self.reporter.install_runtime()
    }
}

/// Runs the command. A missing runtime, and a provider or graph that does not load, is an error after the report.
pub fn run(args: &Doctor, reporter: &Reporter) -> anyhow::Result<()> {
    let layers = args.layers()?;
    let folder = bundles::find_or_demo(&layers, reporter).ok();
    let (bundle, config) = startup::resolve(&layers, folder.as_deref())?;
    let options = config.runtime;
    let notes = Notes {
        reporter,
        notes: std::sync::Mutex::default(),
    };
    let candidates = library::candidates(options.library.path());
    let loaded = startup::load(&options, &notes);
    let mut facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        candidates: candidates
            .into_iter()
            .map(|c| Candidate {
                origin: c.origin.to_string(),
                path: to_text(&c.path),
            })
            .collect(),
        telemetry: telemetry::is_enabled(),
        notes: notes.notes.into_inner().unwrap_or_default(),
        ..Facts::default()
    };
    let outcome = match loaded {
        Ok(loaded) => examine(loaded, &options, bundle.as_ref(), &mut facts, reporter)?,
        Err(error) => {
            facts.library = Some(Library::Missing {
                error: error.to_string(),
            });
            Err(error)
        }
    };
    facts.verdict = match &outcome {
        Ok(()) => facts
            .warning()
            .map_or(Verdict::Works, Verdict::WorksWithWarnings),
        Err(error) => Verdict::WillNotRun(facts.fault(error)),
    };
    match args.json {
        true => {
            let text = serde_json::to_string_pretty(&facts)
                .map_err(|e| Error::internal("the facts cannot be written").with_source(e))?;
            say::print(&format!("{text}\n"))?;
        }
        false => say::text(&facts.to_string())?,
    }
    Ok(outcome?)
}

impl Facts {
    /// What to do first about the fault that ends a run.
    fn fault(&self, error: &Error) -> String {
        match self.without(false) {
            // The report has the reason.
            Some((provider, problem)) => format!(
                "install what `{provider}` needs ({}), or leave it out of runtime.providers",
                problem.remedy
            ),
            None => error.to_string(),
        }
    }

    /// What to do first about what is not as it could be.
    fn warning(&self) -> Option<String> {
        let optional = self.without(true).map(|(provider, problem)| {
            format!("install what `{provider}` needs: {}", problem.remedy)
        });
        let bundle = || {
            let is_named = self.bundle.is_some();
            (!is_named).then(|| "give --bundle DIR: no bundle was found".to_owned())
        };
        optional
            .or_else(bundle)
            .or_else(|| self.notes.first().cloned())
    }

    /// The first configured provider that does not load.
    fn without(&self, optional: bool) -> Option<(ProviderKind, &Problem)> {
        let mut configured = self.providers.iter().filter(|entry| entry.configured);
        configured.find_map(|entry| {
            let problem = entry.problem.as_ref()?;
            (entry.optional == optional).then_some((entry.provider, problem))
        })
    }
}

/// Collects all facts except the library search; the inner result is the first fault.
fn examine(
    loaded: &Loaded,
    options: &RuntimeOptions,
    bundle: Option<&Bundle>,
    facts: &mut Facts,
    reporter: &Reporter,
) -> Result<Result<()>> {
    facts.library = Some(Library::Loaded {
        path: to_text(&loaded.candidate.path),
        origin: loaded.candidate.origin.to_string(),
        version: loaded.version.to_string(),
        build: loaded.build.to_string(),
    });
    facts.providers = providers(options)?;
    // A plugin's devices are known only after trying it.
    facts.devices = library::devices(None)?;
    let mut outcome = runtime::check_providers(options).map(drop);
    if let Some(bundle) = bundle {
        facts.bundle = Some(to_text(bundle.dir()));
        outcome = runtime::check(&bundle.graph_files(), options).map(drop);
        // With a missing provider every graph would fail the same way.
        if outcome.is_ok() {
            outcome = graphs(bundle, options, reporter, &mut facts.graphs);
        }
    }
    Ok(outcome)
}

/// The configured providers, then all others.
fn providers(options: &RuntimeOptions) -> Result<Vec<ProviderFacts>> {
    let mut all: Vec<(Provider, bool)> = Vec::new();
    for provider in options.all_providers() {
        if !all.iter().any(|(known, _)| known == provider) {
            all.push((provider.clone(), true));
        }
    }
    for kind in ProviderKind::ALL {
        if !all.iter().any(|(known, _)| known.kind() == kind) {
            all.push((Provider::new(kind), false));
        }
    }
    let entry = |(provider, configured): (Provider, bool)| {
        let kind = provider.kind();
        let problem = runtime::probe(&provider, options)?
            .err()
            .map(|reason| Problem {
                reason: reason.to_string(),
                remedy: kind.remedy(),
            });
        Ok(ProviderFacts {
            provider: kind,
            configured,
            optional: provider.optional,
            loads: problem.is_none(),
            problem,
        })
    };
    all.into_iter().map(entry).collect()
}

/// Loads every graph of the bundle in turn and counts the nodes of each provider and the copies between devices.
fn graphs(
    bundle: &Bundle,
    options: &RuntimeOptions,
    reporter: &Reporter,
    facts: &mut Vec<GraphFacts>,
) -> Result<()> {
    let mut outcome = Ok(());
    for graph in bundle.graph_files() {
        if graph.bytes > startup::LARGE_FILE {
            let gigabytes = graph.bytes as f64 / 1e9;
            reporter.note(&format!("loading {} ({gigabytes:.1} GB)", graph.name));
        }
        facts.push(match Session::load_counting_copies(&graph, options) {
            Ok((session, copies)) => GraphFacts::Loaded {
                graph: graph.name,
                provider: session.provider().to_owned(),
                nodes: session.nodes().clone(),
                copies,
            },
            Err(error) => {
                let failed = GraphFacts::Failed {
                    graph: graph.name,
                    error: error.to_string(),
                };
                outcome = Err(error);
                failed
            }
        });
    }
    outcome
}
