//! A bundle of a restoration module alone, and `--stage1-only`.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::program::{Program, picture};

/// Reduces a copied bundle to its restoration module.
fn keep_the_module_alone(dir: &Path) {
    let manifest = dir.join("bundle.yaml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let mut document: Mapping = serde_yaml::from_str(&text).unwrap();
    for key in ["diffusion", "latent", "defaults", "contexts", "tokenizer"] {
        document.remove(key);
    }
    let graphs = document.get_mut("graphs").and_then(Value::as_mapping_mut);
    graphs.unwrap().retain(|name, _| name == "cleaner_sr");
    std::fs::write(&manifest, serde_yaml::to_string(&document).unwrap()).unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("cleaner_sr.") && name != "bundle.yaml" {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_restoration_module_alone_is_a_bundle() {
    let program = Program::new();
    let bundle = program.copy_of_tiny("alone");
    keep_the_module_alone(&bundle);
    std::fs::write(program.dir().join("lq.png"), picture(65, 70)).unwrap();
    let restore = ["restore", "lq.png", "-o"];
    let whole = ["whole.png", "--save-stages", "stages", "--steps", "2"];
    program
        .tiny_bundle(&[&restore[..], &whole].concat())
        .code(0);
    let alone = ["--bundle", "alone", "--stage1-only"];
    let run = program.run(&[&restore[..], &["out.png"], &alone].concat());
    run.code(0);
    // The whole bundle stops there too.
    let run = ["full.png", "--stage1-only", "--no-metadata"];
    program.tiny_bundle(&[&restore[..], &run].concat()).code(0);
    let pixels = |name: &str| {
        let file = std::fs::File::open(program.dir().join(name)).unwrap();
        let mut reader = png::Decoder::new(std::io::BufReader::new(file))
            .read_info()
            .unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        bytes.truncate(info.buffer_size());
        (info.width, info.height, bytes)
    };
    let stages = program.files("stages");
    let stage1 = stages.iter().find(|name| name.contains("stage1")).unwrap();
    let stage1 = pixels(&format!("stages/{stage1}"));
    assert_eq!((stage1.0, stage1.1), (280, 260));
    assert_eq!(pixels("out.png"), stage1);
    assert_eq!(pixels("full.png"), stage1);

    let run = program.run(&[&restore[..], &["no.png", "--bundle", "alone"]].concat());
    run.code(2);
    run.says(&["has no diffusion model", "--stage1-only"]);
    let plan = program.run(&[&restore[..], &["no.png", "--dry-run"], &alone].concat());
    plan.code(0);
    assert!(!plan.stdout().contains("sampling"), "{}", plan.stdout());
    let inspected = program.run(&["inspect", "alone"]);
    inspected.code(0);
    assert!(inspected.stdout().contains("no diffusion model"));
    program.run(&["doctor", "--bundle", "alone"]).code(0);
    program.run(&["config", "--bundle", "alone"]).code(0);
    let bench = ["bench", "--runs", "1", "--size", "256x256"];
    program.run(&[&bench[..], &alone].concat()).code(0);
    let graphs = ["bench", "--graphs", "--write", "--bundle", "alone"];
    program.run(&graphs).code(0);
    program
        .run(&[&restore[..], &["again.png"], &alone].concat())
        .code(0);
    assert_eq!(pixels("again.png"), stage1);
}
