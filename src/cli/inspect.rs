//! `diffbir inspect` and `diffbir config`.

use serde_json::Value;

use crate::bundle::{Bundle, Graph};
use crate::cli::args::{ConfigCommand, Inspect};
use crate::cli::report::Reporter;
use crate::cli::say;
use crate::config::Layers;
use crate::error::Error;
use crate::service::{Opened, bundles, startup};

/// Verifies a bundle's files and shows its contents.
pub fn run(args: &Inspect, reporter: &Reporter) -> anyhow::Result<()> {
    let bundle = match &args.bundle {
        Some(folder) => Bundle::open(folder)?,
        None => {
            let mut layers = Layers::default();
            bundles::environment(&mut layers);
            Opened::open_or_demo(layers, reporter)?.bundle
        }
    };
    startup::verify(&bundle, args.verify, reporter)?;
    if args.json {
        let text = serde_json::to_string_pretty(bundle.manifest())
            .map_err(|e| Error::internal("the manifest cannot be written").with_source(e))?;
        return Ok(say::print(&format!("{text}\n"))?);
    }
    Ok(say::text(&describe(&bundle))?)
}

/// Prints the effective configuration as YAML, merged onto the bundle's defaults, or, with a comment that says so, onto
/// v1's.
pub fn print_config(args: &ConfigCommand) -> anyhow::Result<()> {
    let layers = args.layers()?;
    let folder = bundles::find(&layers).ok();
    let (bundle, config) = startup::resolve(&layers, folder.as_deref())?;
    let head = match bundle {
        Some(_) => "",
        None => {
            "# No bundle is named: the defaults are those of DiffBIR v1. Give --bundle DIR for a bundle's own.\n"
        }
    };
    Ok(say::print(&format!("{head}{}", config.to_yaml()?))?)
}

fn describe(bundle: &Bundle) -> String {
    let manifest = bundle.manifest();
    let tasks: Vec<String> = manifest
        .tasks
        .iter()
        .map(|(task, entry)| format!("{task} ({})", entry.cleaner))
        .collect();
    let listed = manifest.contexts.iter().flat_map(|c| &c.prompts);
    let mut prompts: Vec<String> = listed
        .map(|entry| format!("{:?}", shortened(&entry.prompt)))
        .collect();
    if bundle.tokenizer().is_some() {
        prompts.push("any other, by its text encoder".to_owned());
    }
    let model = match &manifest.defaults {
        Some(defaults) => format!(
            "  prompts  {}\n  defaults {}, {} steps, cfg scale {}\n  pictures are brought to a short edge of at least {} \
             pixels\n",
            prompts.join(", "),
            defaults.sampler,
            defaults.steps,
            defaults.cfg_scale,
            manifest.min_short_edge,
        ),
        None => "  no diffusion model: for restore --stage1-only\n".to_owned(),
    };
    let mut text = format!(
        "{}: bundle format {}, family {}, {} weights\n  sha256   {}\n  tasks    {}\n{model}",
        bundle.dir().display(),
        manifest.format,
        manifest.family,
        manifest.weights.source,
        bundle.hash(),
        tasks.join(", "),
    );
    text.push_str(
        "  graphs (relative RMS error against PyTorch, largest of the exporter's checks)\n",
    );
    for (name, graph) in &manifest.graphs {
        let error = largest_error(graph).map_or("unknown".to_owned(), |x| format!("{x:.1e}"));
        let megabytes = bundle.graph_bytes(graph) as f64 / 1e6;
        let row = [name.as_str(), &graph.architecture, &graph.precision];
        text.push_str(&format!(
            "    {:<14} {:<12} {:<5} {megabytes:>9.1} MB  {error}\n",
            row[0], row[1], row[2]
        ));
    }
    text.push_str("all files verified\n");
    text
}

fn largest_error(graph: &Graph) -> Option<f64> {
    let errors = graph
        .verified
        .iter()
        .filter_map(|check| check.get("relative_rms").and_then(Value::as_f64));
    errors.max_by(f64::total_cmp)
}

fn shortened(prompt: &str) -> String {
    match prompt.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &prompt[..end]),
        None => prompt.to_owned(),
    }
}
