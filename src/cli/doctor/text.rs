//! The report of `doctor` as text.

use std::fmt;

use crate::error::OneLine;

use super::{Facts, GraphFacts, Library, ProviderFacts, Verdict};

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "diffbir {}\nlibrary", self.version)?;
        for candidate in &self.candidates {
            writeln!(
                f,
                "  searched {} ({})",
                OneLine(&candidate.path),
                candidate.origin
            )?;
        }
        for note in &self.notes {
            writeln!(f, "  {}", OneLine(note))?;
        }
        if let Some(library) = &self.library {
            writeln!(f, "  {library}")?;
        }
        let telemetry = match self.telemetry {
            true => "left on by ORT_DISABLE_TELEMETRY=0: it may report to its vendor",
            false => "off (ORT_DISABLE_TELEMETRY=0 would leave it on)",
        };
        writeln!(f, "  telemetry of ONNX Runtime: {telemetry}\nproviders")?;
        for provider in &self.providers {
            writeln!(f, "{provider}")?;
        }
        writeln!(f, "   (* in the configuration)\ndevices")?;
        for device in &self.devices {
            writeln!(
                f,
                "  {} {} for {}",
                device.name, device.vendor, device.provider
            )?;
        }
        self.fmt_graphs(f)?;
        match &self.verdict {
            Verdict::Works => writeln!(f, "verdict: works"),
            Verdict::WorksWithWarnings(first) => {
                writeln!(f, "verdict: works with warnings; first: {}", OneLine(first))
            }
            Verdict::WillNotRun(first) => {
                writeln!(f, "verdict: will not run; first: {}", OneLine(first))
            }
        }
    }
}

impl Facts {
    fn fmt_graphs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.bundle, self.graphs.is_empty()) {
            _ if self.providers.is_empty() => {
                writeln!(f, "graphs: not loaded, because no ONNX Runtime was found")
            }
            (None, _) => writeln!(f, "graphs: give --bundle to see the provider of each"),
            (Some(_), true) => writeln!(f, "graphs: not loaded, because of the providers above"),
            (Some(bundle), false) => {
                writeln!(
                    f,
                    "graphs of {bundle}: nodes of each provider, and copies between devices"
                )?;
                self.graphs
                    .iter()
                    .try_for_each(|graph| writeln!(f, "{graph}"))
            }
        }
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Library::Loaded {
                path,
                version,
                build,
                ..
            } => write!(f, "in use: ONNX Runtime {version}, {}\n  {build}", path),
            Library::Missing { error } => write!(f, "none: {error}"),
        }
    }
}

impl fmt::Display for ProviderFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.configured { "*" } else { " " };
        let optional = if self.configured && self.optional {
            "optional, "
        } else {
            ""
        };
        write!(f, " {mark} {:<13} {optional}", self.provider.name())?;
        match &self.problem {
            None => f.write_str("loads"),
            Some(problem) => write!(
                f,
                "does not load: {}.\n{:17}Needed: {}",
                problem.reason, "", problem.remedy
            ),
        }
    }
}

impl fmt::Display for GraphFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GraphFacts::Failed { graph, error } => write!(f, "  {graph:<16} {error}"),
            GraphFacts::Loaded {
                graph,
                nodes,
                copies,
                ..
            } => {
                let nodes: Vec<String> = nodes
                    .iter()
                    .map(|(provider, count)| format!("{provider} {count}"))
                    .collect();
                write!(f, "  {graph:<16} {}, copies: {copies}", nodes.join(", "))
            }
        }
    }
}
