//! Every option through every front: `--set`, a file, its flag, and the C ABI's text, settings and structure.
//! `python/tests/test_options.py` runs the same table through the Python package.

use std::ffi::{CStr, CString};
use std::ptr;

use diffbir::capi::{
    diffbir_engine, diffbir_engine_configuration, diffbir_engine_free, diffbir_engine_new,
    diffbir_engine_options, diffbir_engine_options_init, diffbir_error, diffbir_error_free,
    diffbir_error_message, diffbir_options, diffbir_options_init, diffbir_request_free,
    diffbir_request_new, diffbir_request_provenance, diffbir_request_run, diffbir_request_set_file,
    diffbir_request_set_options, diffbir_string_free,
};
use diffbir::config::keys;
use serde::Deserialize;
use serde_json::Value;

use super::program::{Program, tiny};

/// A value for every key that is not its default, from `samples.json`.
#[derive(Deserialize)]
struct Sample {
    key: String,
    value: Value,
    /// What its flag takes, if that is not the value's text.
    flag: Option<String>,
    /// Other settings that the option needs to be accepted.
    #[serde(default)]
    with: Vec<String>,
    /// What the message names if no engine can be made with it on this machine.
    refused: Option<String>,
}

fn samples() -> Vec<Sample> {
    serde_json::from_str(include_str!("samples.json")).unwrap()
}

impl Sample {
    fn setting(&self) -> String {
        format!("{}={}", self.key, self.value)
    }

    /// A configuration file.
    fn yaml(&self) -> String {
        let (section, name) = self.key.split_once('.').unwrap();
        format!("{section}: {{ {name}: {} }}", self.value)
    }
}

fn value_of(config: &Value, key: &str) -> Value {
    let (section, name) = key.split_once('.').unwrap();
    config[section][name].clone()
}

#[test]
fn every_key_has_a_sample() {
    let sampled: Vec<String> = samples().into_iter().map(|sample| sample.key).collect();
    let known: Vec<String> = keys().map(|key| key.path()).collect();
    assert_eq!(sampled, known);
}

#[test]
fn every_option_reaches_the_configuration_through_every_front_of_the_program() {
    let program = Program::new();
    let flags = diffbir::cli::flags();
    let config = |args: &[&str]| -> Value {
        let run = program.run(&[&["config"], args].concat());
        run.code(0);
        serde_yaml::from_str(&run.stdout()).unwrap()
    };
    let defaults = config(&[]);
    for sample in samples() {
        let key = &sample.key;
        let others = sample.with.iter().map(String::as_str);
        let others: Vec<&str> = others.flat_map(|setting| ["--set", setting]).collect();
        let by_set = config(&[&others[..], &["--set", &sample.setting()]].concat());
        std::fs::write(program.dir().join("c.yaml"), sample.yaml()).unwrap();
        let by_file = config(&[&others[..], &["--config", "c.yaml"]].concat());
        assert_ne!(value_of(&defaults, key), sample.value, "{key}: its default");
        assert_eq!(value_of(&by_set, key), sample.value, "{key} by --set");
        assert_eq!(by_set, by_file, "{key}");
        if let Some(flag) = flags.get(key) {
            let flag = match (&sample.flag, &sample.value) {
                (Some(given), _) if given.is_empty() => flag.clone(),
                (Some(given), _) | (None, Value::String(given)) => format!("{flag}={given}"),
                (None, value) => format!("{flag}={value}"),
            };
            let by_flag = config(&[&others[..], &[&flag]].concat());
            assert_eq!(by_set, by_flag, "{flag}");
        }
    }
}

/// The effective configuration of an engine, or its error.
fn engine_configuration(yaml: Option<&str>, settings: &[String]) -> Result<Value, String> {
    let bundle = CString::new(tiny()).unwrap();
    let yaml = yaml.map(|yaml| CString::new(yaml).unwrap());
    let settings: Vec<CString> = settings
        .iter()
        .map(|setting| CString::new(setting.as_str()).unwrap())
        .collect();
    let pointers: Vec<_> = settings.iter().map(|setting| setting.as_ptr()).collect();
    let mut options = std::mem::MaybeUninit::<diffbir_engine_options>::uninit();
    // SAFETY: the structure has the size that is given, and `_init` fills it.
    let mut options = unsafe {
        diffbir_engine_options_init(options.as_mut_ptr(), size_of::<diffbir_engine_options>());
        options.assume_init()
    };
    options.bundle = bundle.as_ptr();
    options.config_yaml = yaml.as_ref().map_or(ptr::null(), |yaml| yaml.as_ptr());
    options.settings = pointers.as_ptr();
    options.setting_count = pointers.len();
    let mut engine: *mut diffbir_engine = ptr::null_mut();
    ended(diffbir_engine_new(&raw const options, &raw mut engine))?;
    let mut json = ptr::null_mut();
    ended(diffbir_engine_configuration(engine, &raw mut json))?;
    // SAFETY: the call gave a string that ends in NUL and is ours until it is freed.
    let text = unsafe { CStr::from_ptr(json) }.to_str().unwrap().to_owned();
    // SAFETY: it came from the library and is not used any more.
    unsafe { diffbir_string_free(json) };
    diffbir_engine_free(engine);
    Ok(serde_json::from_str(&text).unwrap())
}

fn ended(error: *mut diffbir_error) -> Result<(), String> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the message is valid until the error is freed.
    let message = unsafe { CStr::from_ptr(diffbir_error_message(error)) };
    let message = message.to_str().unwrap().to_owned();
    diffbir_error_free(error);
    Err(message)
}

#[test]
fn every_option_reaches_an_engine_of_the_c_abi() {
    // Makes sure that there is an ONNX Runtime to be found.
    let _program = Program::new();
    for sample in samples() {
        let key = &sample.key;
        let set = [&sample.with[..], &[sample.setting()]].concat();
        let by_set = engine_configuration(None, &set);
        let by_text = engine_configuration(Some(&sample.yaml()), &sample.with);
        match (&by_set, &sample.refused) {
            (Ok(config), _) => assert_eq!(value_of(config, key), sample.value, "{key}"),
            (Err(message), Some(named)) => assert!(message.contains(named), "{key}: {message}"),
            (Err(message), None) => panic!("{key}: {message}"),
        }
        assert_eq!(by_set, by_text, "{key}");
    }
}

/// The named fields of `diffbir_options` are the program's flags: both results say that they were made alike.
#[test]
fn the_fields_of_the_c_structure_are_the_flags() {
    let program = Program::new();
    let picture = program.dir().join("a.png");
    std::fs::write(&picture, super::picture(16, 16)).unwrap();
    let flags = "--task face --sampler edm_heun --prompt= --negative-prompt= --upscale 1.5 --cfg-scale 2 --strength 0.5 \
                 --guidance-scale 0.25 --seed 9 --steps 2 --samples 2";
    let restore = ["restore", "a.png", "-o", "r.png", "--json"];
    let args: Vec<&str> = restore
        .into_iter()
        .chain(flags.split_whitespace())
        .collect();
    let run = program.tiny_bundle(&args);
    run.code(0);
    let mut events = run
        .stdout()
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).unwrap() })
        .collect::<Vec<_>>()
        .into_iter();
    let done = events.find(|event| event["status"] == "done").unwrap();

    let bundle = CString::new(tiny()).unwrap();
    let [task, sampler, empty] = ["face", "edm_heun", ""].map(|text| CString::new(text).unwrap());
    let path = CString::new(picture.to_str().unwrap()).unwrap();
    let mut engine_options = std::mem::MaybeUninit::<diffbir_engine_options>::uninit();
    let mut options = std::mem::MaybeUninit::<diffbir_options>::uninit();
    // SAFETY: the structures have the sizes that are given, and `_init` fills them.
    let (mut engine_options, mut options) = unsafe {
        diffbir_engine_options_init(
            engine_options.as_mut_ptr(),
            size_of::<diffbir_engine_options>(),
        );
        diffbir_options_init(options.as_mut_ptr(), size_of::<diffbir_options>());
        (engine_options.assume_init(), options.assume_init())
    };
    engine_options.bundle = bundle.as_ptr();
    (options.task, options.sampler) = (task.as_ptr(), sampler.as_ptr());
    (options.prompt, options.negative_prompt) = (empty.as_ptr(), empty.as_ptr());
    (options.upscale, options.cfg_scale) = (1.5, 2.0);
    (options.strength, options.guidance_scale) = (0.5, 0.25);
    (options.seed, options.steps, options.samples) = (9, 2, 2);
    let (mut engine, mut request) = (ptr::null_mut(), ptr::null_mut());
    ended(diffbir_engine_new(
        &raw const engine_options,
        &raw mut engine,
    ))
    .unwrap();
    ended(diffbir_request_new(engine, &raw mut request)).unwrap();
    ended(diffbir_request_set_file(request, path.as_ptr())).unwrap();
    ended(diffbir_request_set_options(request, &raw const options)).unwrap();
    ended(diffbir_request_run(request)).unwrap();
    let mut json = ptr::null_mut();
    ended(diffbir_request_provenance(request, &raw mut json)).unwrap();
    // SAFETY: the call gave a string that ends in NUL and is ours until it is freed.
    let text = unsafe { CStr::from_ptr(json) }.to_str().unwrap().to_owned();
    // SAFETY: it came from the library and is not used any more.
    unsafe { diffbir_string_free(json) };
    diffbir_request_free(request);
    diffbir_engine_free(engine);
    let made: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(made, done["provenance"]);
    assert_eq!(made["sampling"]["seed"], 9);
}
