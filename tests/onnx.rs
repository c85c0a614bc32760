//! The engine on real ONNX Runtime with the tiny bundle.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "onnx/bands.rs"]
mod bands;
#[path = "onnx/binding.rs"]
mod binding;
#[path = "onnx/edges.rs"]
mod edges;
#[path = "onnx/forms.rs"]
mod forms;
#[path = "common/program.rs"]
#[allow(dead_code)] // only the runtime's installation is of use here
mod program;
#[path = "common/seams.rs"]
mod seams;
#[path = "onnx/tiles.rs"]
mod tiles;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use diffbir::bundle::Bundle;
use diffbir::cancel::Cancel;
use diffbir::engine::{Engine, Request};
use diffbir::error::ErrorKind;
use diffbir::guidance::Space;
use diffbir::imageio::Rgb;
use diffbir::nets::contract::GraphKind;
use diffbir::nets::{Input, Network, Networks};
use diffbir::options::{Options, RestoreOptions, SamplingOptions};
use diffbir::pipeline::{Event, Intermediate};
use diffbir::runtime::{GraphFile, IoBinding, MemoryPolicy, RuntimeOptions, Session, Sessions};
use ndarray::{Array1, Array3, Array4, ArrayD, Axis, concatenate, s};
use program::Program;

fn tiny() -> Bundle {
    Program::new();
    Bundle::open(Path::new(&program::tiny())).unwrap()
}

fn request(side: usize) -> Request {
    let lq = Array3::from_shape_fn((side, side, 3), |(y, x, c)| {
        ((y * 5 + x * 3) % 200 + c * 20) as u8
    });
    let options = Options {
        restore: RestoreOptions {
            upscale: Some(1.0),
            ..RestoreOptions::default()
        },
        sampling: SamplingOptions {
            steps: 3,
            ..SamplingOptions::default()
        },
        ..Options::default()
    };
    Request::new(lq, options)
}

fn run(options: RuntimeOptions, request: &Request) -> Rgb {
    Engine::open(tiny(), options)
        .restore(request, &mut |_| Ok(()))
        .unwrap()
        .samples
        .remove(0)
        .into_u8()
}

#[test]
fn memory_policies_give_the_same_picture() {
    let policy = |memory| {
        run(
            RuntimeOptions {
                memory,
                ..RuntimeOptions::default()
            },
            &request(40),
        )
    };
    assert_eq!(policy(MemoryPolicy::Keep), policy(MemoryPolicy::Sequential));
}

#[test]
fn graphs_of_large_bundles_that_give_memory_back_give_the_same_picture() {
    let mut files = tiny().graph_files();
    files.iter_mut().for_each(|file| file.bytes = 1 << 30);
    let sessions = Sessions::new(files, RuntimeOptions::default());
    assert!(
        sessions.info().keeps,
        "large ones are kept too where there is room"
    );
    let engine = Engine::from_networks(tiny(), Box::new(sessions));
    let request = request(24);
    let plain = run(RuntimeOptions::default(), &request);
    for _ in 0..2 {
        let restored = engine.restore(&request, &mut |_| Ok(())).unwrap();
        assert_eq!(*restored.samples[0].to_u8(), plain);
    }
}

#[test]
fn what_ran_where_is_told() {
    let restored = Engine::open(tiny(), RuntimeOptions::default())
        .restore(&request(16), &mut |_| Ok(()))
        .unwrap();
    let graphs: Vec<&str> = restored
        .provenance
        .graphs
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        graphs,
        ["cleaner_sr", "denoiser", "vae_decoder", "vae_encoder"]
    );
    assert!(
        restored
            .provenance
            .graphs
            .values()
            .all(|ran| ran.provider == "CPUExecutionProvider")
    );
}

/// One graph of the tiny bundle.
fn session(name: &str) -> Session {
    let file = tiny()
        .graph_files()
        .into_iter()
        .find(|file| file.name == name)
        .unwrap();
    Session::load(&file, &RuntimeOptions::default()).unwrap()
}

#[test]
fn graphs_take_any_batch_and_size_and_a_batch_equals_its_parts() {
    let mut encoder = session("vae_encoder");
    let image = Array4::from_shape_fn((2, 3, 40, 72), |(n, c, y, x)| {
        ((n * 7 + c * 5 + y * 3 + x) % 17) as f32 / 8.5 - 1.0
    });
    let mut encode = |image: &Array4<f32>| {
        encoder
            .run(&[("image", image.into())], &["latent"])
            .unwrap()
            .remove(0)
    };
    let batch = encode(&image);
    assert_eq!(batch.shape(), [2, 4, 5, 9]);
    for k in 0..2 {
        let one = encode(&image.slice(s![k..k + 1, .., .., ..]).to_owned());
        let largest = one
            .iter()
            .zip(batch.slice(s![k..k + 1, .., .., ..]))
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(largest < 1e-4, "sample {k} is {largest} off");
    }
}

#[test]
fn an_array_in_another_order_is_read_in_the_right_one() {
    let mut encoder = session("vae_encoder");
    let hwc = Array4::from_shape_fn((1, 16, 24, 3), |(_, y, x, c)| {
        (y + 2 * x + 5 * c) as f32 / 60.0 - 1.0
    });
    let chw = hwc.view().permuted_axes([0, 3, 1, 2]);
    let in_order = chw.as_standard_layout().into_owned();
    let strided = encoder
        .run(&[("image", Input::F32(chw.into_dyn()))], &["latent"])
        .unwrap();
    let plain = encoder
        .run(&[("image", (&in_order).into())], &["latent"])
        .unwrap();
    assert_eq!(strided, plain);
}

/// A graph in 16 bits: the mean of each 8x8 block, and twice the first channel's.
fn encoder_f16() -> GraphFile {
    GraphFile {
        name: "vae_encoder".into(),
        kind: GraphKind::VaeEncoder,
        path: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder_f16.onnx"),
        segments: None,
        bytes: 0,
        variants: Vec::new(),
        hashes: Vec::new(),
    }
}

#[test]
fn sixteen_bit_inputs_and_outputs_are_converted() {
    tiny();
    let mut encoder = Session::load(&encoder_f16(), &RuntimeOptions::default()).unwrap();
    // Values that 16 bits hold exactly.
    let image = Array4::from_shape_fn((1, 3, 8, 16), |(_, c, _, x)| {
        c as f32 + if x < 8 { 0.5 } else { -2.0 }
    });
    let latent = encoder
        .run(&[("image", (&image).into())], &["latent"])
        .unwrap()
        .remove(0);
    assert_eq!(latent.shape(), [1, 4, 1, 2]);
    assert_eq!(
        latent.iter().copied().collect::<Vec<_>>(),
        [0.5, -2.0, 1.5, -1.0, 2.5, 0.0, 1.0, -4.0]
    );
}

#[test]
fn a_wrong_shape_is_an_error_that_names_graph_and_shape() {
    let mut encoder = session("vae_encoder");
    let image = Array4::<f32>::zeros((1, 5, 16, 16));
    let error = encoder
        .run(&[("image", (&image).into())], &["latent"])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Runtime);
    assert!(
        error.to_string().contains("vae_encoder") && error.to_string().contains("[1, 5, 16, 16]"),
        "{error}"
    );
}

#[test]
fn a_second_library_in_one_process_is_refused() {
    tiny();
    diffbir::runtime::load(None).unwrap();
    let other = RuntimeOptions {
        library: PathBuf::from("/elsewhere/libonnxruntime.so").into(),
        ..Default::default()
    };
    let file = tiny().graph_files().remove(0);
    let error = Session::load(&file, &other).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Runtime);
    assert!(error.to_string().contains("cannot change"), "{error}");
}

#[test]
fn a_file_that_is_no_graph_is_the_bundles_fault() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = tiny().graph_files().remove(0);
    file.path = dir.path().join("nonsense.onnx");
    std::fs::write(&file.path, b"nonsense").unwrap();
    let error = Session::load(&file, &RuntimeOptions::default())
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Bundle, "{error}");
    assert!(error.to_string().contains("nonsense.onnx"), "{error}");
}

/// What a request made on the way: stage 1's latent, and the latents and decoded pictures of all samples.
struct Made {
    c_img: Array4<f32>,
    z: Array4<f32>,
    stage1: Array4<f32>,
    decoded: Array4<f32>,
}

fn made(engine: &Engine, request: &Request) -> Made {
    let (mut c_img, mut stage1, mut z, mut decoded) = (None, None, Vec::new(), Vec::new());
    let mut keep = |event: Event<'_>| {
        match event {
            Event::Tensor(Intermediate::CImg, _, x) => c_img = Some(x.clone()),
            Event::Picture(Intermediate::Stage1, _, x) => stage1 = Some(x.to_array()?),
            Event::Tensor(Intermediate::Z, _, x) => z.push(x.clone()),
            Event::Picture(Intermediate::Decoded, _, x) => decoded.push(x.to_array()?),
            _ => {}
        }
        Ok(())
    };
    engine.restore(request, &mut keep).unwrap();
    let join = |parts: &[Array4<f32>]| {
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        concatenate(Axis(0), &views).unwrap()
    };
    Made {
        c_img: c_img.unwrap(),
        stage1: stage1.unwrap(),
        z: join(&z),
        decoded: join(&decoded),
    }
}

fn largest(x: &Array4<f32>) -> f32 {
    x.iter().fold(0.0, |max, x| max.max(x.abs()))
}

#[test]
fn a_batch_of_four_equals_four_single_runs() {
    let engine = Engine::open(tiny(), RuntimeOptions::default());
    for sampler in ["spaced", "edm_dpm++_3m_sde"] {
        let run = |seed, samples| {
            let mut request = request(40);
            let sampling = &mut request.options.sampling;
            sampling.sampler = sampler.to_owned();
            (sampling.seed, sampling.samples, sampling.batch_size) = (seed, samples, samples);
            made(&engine, &request).z
        };
        let batch = run(231, 4);
        for k in 0..4 {
            let single = run(231 + k as u64, 1);
            let of_batch = batch.slice(s![k..k + 1, .., .., ..]).to_owned();
            let difference = largest(&(&of_batch - &single)) / largest(&single);
            assert!(difference < 1e-5, "{sampler} sample {k}: {difference:e}");
        }
    }
}

#[test]
fn guidance_draws_the_result_to_stage_1() {
    let engine = Engine::open(tiny(), RuntimeOptions::default());
    let square = |x: Array4<f32>| f64::from(x.mapv(|x| x * x).mean().unwrap());
    for (space, scales) in [
        (Space::Latent, [0.0, 20.0, 80.0, 320.0]),
        (Space::Rgb, [0.0, 1000.0, 4000.0, 16000.0]),
    ] {
        let distances = scales.map(|scale| {
            let mut request = request(40);
            request.options.guidance.scale = scale;
            request.options.guidance.space = space;
            let made = made(&engine, &request);
            match space {
                Space::Latent => square(made.z - made.c_img),
                Space::Rgb => square(made.decoded - made.stage1.mapv(|x| x * 2.0 - 1.0)),
            }
        });
        eprintln!("{space:?}: mean square distance {distances:?} at scales {scales:?}");
        assert!(
            distances.is_sorted_by(|a, b| a > b),
            "{space:?} {distances:?}"
        );
    }
}

/// Also where inputs and outputs are bound, which the second run on a shape is.
#[test]
fn cancellation_from_another_thread_ends_a_graph_while_it_runs() {
    for io_binding in [IoBinding::Never, IoBinding::Always] {
        let options = RuntimeOptions {
            io_binding,
            ..RuntimeOptions::default()
        };
        let mut sessions = Sessions::new(tiny().graph_files(), options);
        let image: Array4<f32> = Array4::from_elem((1, 3, 256, 256), 0.1);
        let mut run = |cancel: &Cancel| {
            sessions.cancelled_by(cancel);
            let encoder = sessions.get("vae_encoder")?;
            encoder.run(&[("image", (&image).into())], &["latent"])
        };
        let never = Cancel::default();
        let expected = run(&never).unwrap();
        assert_eq!(run(&never).unwrap(), expected);
        let cancel = Cancel::default();
        let (begun, begins) = mpsc::channel();
        let other = cancel.clone();
        let thread = thread::spawn(move || {
            begins.recv().unwrap();
            other.cancel();
        });
        begun.send(()).unwrap();
        // Runs may be over before the other thread acts. One that begins after it never is.
        let error = loop {
            let is_late = cancel.is_cancelled();
            match run(&cancel) {
                Ok(_) => assert!(!is_late, "a run ended although it was cancelled"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        thread.join().unwrap();
        assert_eq!(
            run(&never).unwrap(),
            expected,
            "the session serves the next request"
        );
    }
}
