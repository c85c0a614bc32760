//! Every option reaches a run with the same value, whichever front gives it, and is judged once the bundle is known.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "options/fronts.rs"]
mod fronts;
#[path = "common/program.rs"]
#[allow(dead_code)] // what the other tests of the program use
mod program;

use std::path::Path;

use diffbir::config::{Layers, keys};
use diffbir::samplers::SAMPLERS;
use diffbir::service::Opened;
use program::{Program, picture};
use serde_json::Value;

/// A copy of the tiny bundle with another sampler as its default.
fn with_default_sampler(program: &Program, sampler: &str, steps: usize) -> String {
    let name = format!("bundle-{sampler}-{steps}");
    let dir = program.copy_of_tiny(&name);
    let path = dir.join("bundle.yaml");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let changed = manifest
        .replacen("sampler: spaced", &format!("sampler: {sampler}"), 1)
        .replacen("steps: 50", &format!("steps: {steps}"), 1);
    assert_ne!(manifest, changed);
    std::fs::write(&path, changed).unwrap();
    dir.to_string_lossy().into_owned()
}

/// v2.1's default sampler takes `eta` and a single step; v1's, which stands where no bundle is known, takes neither.
#[test]
fn options_are_judged_by_the_bundles_sampler() {
    let program = Program::new();
    let bundle = with_default_sampler(&program, "edm_dpm++_3m_sde", 10);
    std::fs::write(program.dir().join("a.png"), picture(16, 16)).unwrap();
    std::fs::write(
        program.dir().join("eta.yaml"),
        "sampling: { eta: 0.5, steps: 1 }",
    )
    .unwrap();
    for flags in [
        &["--eta", "0.5"][..],
        &["--steps", "1"],
        &["--set", "sampling.eta=0.5"],
        &["--config", "eta.yaml"],
    ] {
        let command = [&["config", "--bundle", &bundle][..], flags].concat();
        program.run(&command).code(0);
        let restore = ["restore", "a.png", "-o", "never.png", "--dry-run"];
        let command = [&restore[..], &["--bundle", &bundle], flags].concat();
        program.run(&command).code(0);
    }
    // The same over v1's sampler is refused, with the layer that is at fault.
    let v1 = ["restore", "a.png", "-o", "never.png", "--dry-run"];
    let run = program.tiny_bundle(&[&v1[..], &["--eta", "0.5"]].concat());
    run.code(2);
    run.says(&["the sampler spaced ignores it"]);
    let run = program.tiny_bundle(&[&v1[..], &["--config", "eta.yaml"]].concat());
    run.code(3);
    run.says(&["eta.yaml: sampling."]);
}

/// Every default sampler of a bundle with every sampler parameter: the program judges as the library's layers do, which the
/// C ABI and Python resolve.
#[test]
fn every_default_sampler_judges_every_parameter_alike() {
    let parameters = [
        "s_churn=0.5",
        "s_tmin=0.1",
        "s_tmax=5",
        "s_noise=1",
        "eta=0.5",
        "eta=1.5",
        "order=2",
        "order=4",
        "steps=1",
    ];
    let program = Program::new();
    let (mut accepted, mut refused) = (0, 0);
    for sampler in SAMPLERS {
        let bundle = with_default_sampler(&program, sampler.name, 7);
        let mut outcomes = Vec::new();
        for parameter in parameters {
            let mut layers = Layers::default();
            let setting = format!("sampling.{parameter}");
            layers
                .set([format!("bundle={bundle}").as_str(), setting.as_str()])
                .unwrap();
            let outcome = Opened::open(layers);
            let uses = sampler
                .parameters
                .iter()
                .any(|used| parameter.starts_with(&format!("{}=", used.key())));
            assert!(
                outcome.is_err() || uses || parameter == "steps=1",
                "{} {parameter}",
                sampler.name
            );
            outcomes.push(outcome.err().map(|error| error.to_string()));
        }
        // One run of the program for each sampler keeps this quick: the parameter that comes next in turn.
        let turn = (accepted + refused) % parameters.len();
        let setting = format!("sampling.{}", parameters[turn]);
        let run = program.run(&["config", "--bundle", &bundle, "--set", &setting]);
        match &outcomes[turn] {
            None => run.code(0),
            Some(error) => {
                run.code(2);
                run.says(&[error]);
            }
        }
        let failed = outcomes.iter().flatten().count();
        (accepted, refused) = (accepted + outcomes.len() - failed, refused + failed);
    }
    assert!(accepted > 40 && refused > 100, "{accepted} and {refused}");
}

#[test]
fn a_bundle_whose_defaults_cannot_work_is_at_fault_itself() {
    let program = Program::new();
    let bundle = with_default_sampler(&program, "dpm++_m3", 2);
    let run = program.run(&["config", "--bundle", &bundle]);
    run.code(3);
    run.says(&["the bundle's defaults", "dpm++_m3"]);
    program
        .run(&["config", "--bundle", &bundle, "--steps", "5"])
        .code(0);
}

/// A Rust host gets a bundle's defaults as every other front does.
#[test]
fn a_rust_host_gets_the_bundles_options() {
    let program = Program::new();
    let folder = with_default_sampler(&program, "edm_heun", 7);
    let bundle = diffbir::bundle::Bundle::open(Path::new(&folder)).unwrap();
    let run = program.run(&["config", "--bundle", &folder]);
    let printed: Value = serde_yaml::from_str(&run.stdout()).unwrap();
    let options = serde_json::to_value(bundle.options()).unwrap();
    assert_eq!(options["sampling"]["sampler"], "edm_heun");
    for section in ["restore", "sampling", "guidance", "tiling"] {
        assert_eq!(options[section], printed[section]);
    }
}

#[test]
fn commands_take_only_the_options_that_act_in_them() {
    let program = Program::new();
    for (command, hint) in [
        (&["doctor", "--overwrite"][..], "`diffbir restore`"),
        (&["doctor", "--keep-grey"], "`diffbir restore`"),
        (&["doctor", "--quality", "80"], "`diffbir restore`"),
        (&["doctor", "--guidance-scale", "1"], "`diffbir demo`"),
        (&["bench", "--save-stages", "x"], "`diffbir restore`"),
        (&["demo", "--format", "jpeg"], "`diffbir restore`"),
        (&["doctor", "--set", "output.quality=80"], "no effect"),
        (&["bench", "--set", "input.captions=false"], "no effect"),
        (
            &["restore", "--control-reuse", "1"],
            "--set sampling.control_reuse=VALUE",
        ),
        (&["config", "--set", "steps=3"], "`sampling.steps`"),
        (&["config", "--memory-budget", "8"], "8GiB"),
    ] {
        let run = program.run(command);
        run.code(2);
        run.says(&[hint]);
    }
}

#[test]
fn the_last_of_two_wins_and_several_settings_add_up() {
    let program = Program::new();
    let config = |flags: &[&str]| -> Value {
        let run = program.run(&[&["config"], flags].concat());
        run.code(0);
        serde_yaml::from_str(&run.stdout()).unwrap()
    };
    let last = config(&["--seed", "1", "--seed", "2"]);
    assert_eq!(last["sampling"]["seed"], 2);
    let last = config(&["--set", "sampling.seed=1", "--set", "sampling.seed=2"]);
    assert_eq!(last["sampling"]["seed"], 2);
    let both = config(&["--set", "sampling.seed=1", "--set", "sampling.steps=2"]);
    assert_eq!(
        (&both["sampling"]["seed"], &both["sampling"]["steps"]),
        (&1.into(), &2.into())
    );
    let tiles = config(&["--tile", "vae_encoder=256", "--tile", "cleaner=512:256"]);
    assert_eq!(tiles["tiling"]["vae_encoder"], 256);
    assert_eq!(tiles["tiling"]["cleaner"]["stride"], 256);
    let budget = config(&["--memory-budget", "8gb"]);
    assert_eq!(budget["tiling"]["memory_budget"], 8_000_000_000_u64);
    let old_name = config(&["--set", "sampling.fidelity=reference"]);
    assert_eq!(old_name["restore"]["fidelity"], "reference");
    let options = config(&[
        "--set",
        "runtime.options.a.b=1",
        "--set",
        "runtime.options.c=2",
    ]);
    assert_eq!(options["runtime"]["options"]["a.b"], 1);
}

/// A pipe can be read once: a second reading would wait for ever.
#[cfg(unix)]
#[test]
fn the_configuration_file_is_read_once_and_resolved_once() {
    let program = Program::new();
    std::fs::write(program.dir().join("f_1.png"), picture(16, 16)).unwrap();
    let pipe = program.dir().join("c.yaml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let writer = std::thread::spawn(move || std::fs::write(pipe, "sampling: { steps: 2 }"));
    let frames = ["restore", "f_1.png", "-o", "out", "--frames", "--upscale"];
    let run = program.tiny_bundle(&[&frames[..], &["1", "--config", "c.yaml"]].concat());
    run.code(0);
    writer.join().unwrap().unwrap();

    let mut layers = Layers::default();
    layers
        .set([format!("bundle={}", program::tiny()).as_str()])
        .unwrap();
    let before = diffbir::config::resolutions();
    Opened::open(layers).unwrap();
    assert_eq!(diffbir::config::resolutions() - before, 1);
}

#[test]
fn man_pages_and_completions_come_from_the_declarations() {
    let program = Program::new();
    program.run(&["man", "pages"]).code(0);
    let page = program.read("pages/diffbir-restore.1");
    let page = String::from_utf8(page).unwrap();
    for (_, flag) in diffbir::cli::flags() {
        let escaped = flag.replace('-', "\\-");
        assert!(page.contains(&escaped), "{flag} is not in the man page");
    }
    for shell in ["bash", "zsh", "fish"] {
        let run = program.run(&["completions", shell]);
        run.code(0);
        run.prints(&["memory-budget"]);
    }
}

/// `DIFFBIR_BLESS=1 cargo test --release --test options` writes the table anew.
#[test]
fn the_documented_table_of_options_is_that_of_the_declarations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    let head = "# Options\n\nEvery option of `restore`, made from the declarations in `src/` by `tests/options.rs`. A key is set in a \
                configuration\nfile, with `--set section.key=VALUE`, or with its flag. An option without a default is unset.\n";
    let table = format!("{head}{}", diffbir::cli::option_table());
    if std::env::var_os("DIFFBIR_BLESS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == table,
        "docs/options.md is out of date: run DIFFBIR_BLESS=1 cargo test --release --test options"
    );
    assert!(keys().all(|key| table.contains(&format!("| `{}` |", key.name))));
}
