//! Inputs and outputs that keep their place, here in the machine's memory: the same code as on a device.

use ndarray::{Array, Dimension};

use super::*;

fn loaded(file: &GraphFile, io_binding: IoBinding) -> Session {
    let options = RuntimeOptions {
        io_binding,
        ..RuntimeOptions::default()
    };
    Session::load(file, &options).unwrap()
}

fn wave<D: Dimension>(shape: impl ndarray::ShapeBuilder<Dim = D>, step: f32) -> Array<f32, D> {
    let mut k = 0.0;
    Array::zeros(shape).mapv_into(|_: f32| {
        k += step;
        k.sin()
    })
}

/// The denoiser at `timestep`, `size` cells wide.
fn ask(session: &mut Session, width: usize, size: usize, timestep: f32) -> Vec<ArrayD<f32>> {
    let (x, hint) = (wave((1, 4, 8, size), timestep), wave((1, 4, 8, size), 0.3));
    let (context, strength) = (wave((1, 77, width), 0.7), Array1::from_elem(13, 0.9));
    let timestep = Array1::from_elem(1, timestep);
    let inputs: [(&str, Input<'_>); 5] = [
        ("x", (&x).into()),
        ("timestep", (&timestep).into()),
        ("context", (&context).into()),
        ("hint", (&hint).into()),
        ("strength", (&strength).into()),
    ];
    session.run(&inputs, &["output"]).unwrap()
}

#[test]
fn bound_tensors_give_what_loose_ones_give_and_only_changes_are_copied() {
    let bundle = tiny();
    let width = bundle.manifest().contexts.as_ref().unwrap().width;
    let files = bundle.graph_files();
    let file = files.iter().find(|file| file.name == "denoiser").unwrap();
    let mut loose = loaded(file, IoBinding::Never);
    let mut bound = loaded(file, IoBinding::Always);
    // Width, timestep, and how many inputs are copied: the first run of a shape is not bound, the second binds.
    let runs = [
        (8, 900.0, 0),
        (8, 500.0, 0),
        (8, 500.0, 0),
        (8, 20.0, 2),
        (16, 20.0, 0),
        (16, 900.0, 0),
        (8, 900.0, 2),
        (16, 20.0, 2),
    ];
    for (k, (size, timestep, copied)) in runs.into_iter().enumerate() {
        let before = bound.inputs_copied();
        let found = ask(&mut bound, width, size, timestep);
        assert_eq!(found, ask(&mut loose, width, size, timestep), "run {k}");
        assert_eq!(bound.inputs_copied() - before, copied, "run {k}");
    }
    assert_eq!(loose.inputs_copied(), 0);
}

#[test]
fn more_shapes_than_are_kept_are_no_harm() {
    let files = tiny().graph_files();
    let file = files
        .iter()
        .find(|file| file.name == "vae_encoder")
        .unwrap();
    let mut loose = loaded(file, IoBinding::Never);
    let mut bound = loaded(file, IoBinding::Always);
    for size in (1..=12).chain(1..=12).chain([12, 3, 3, 3]) {
        let image = wave((1, 3, 8, 8 * size), 0.2);
        let run = |session: &mut Session| session.run(&[("image", (&image).into())], &["latent"]);
        assert_eq!(run(&mut bound).unwrap(), run(&mut loose).unwrap());
    }
}

#[test]
fn sixteen_bits_are_bound_too() {
    tiny();
    let mut encoder = loaded(&encoder_f16(), IoBinding::Always);
    for scale in [1.0_f32, 1.0, 2.0, -0.5] {
        let image = Array4::from_shape_fn((1, 3, 8, 16), |(_, c, _, x)| {
            scale * (c as f32 + if x < 8 { 0.5 } else { -2.0 })
        });
        let found = encoder.run(&[("image", (&image).into())], &["latent"]);
        let wanted = [0.5, -2.0, 1.5, -1.0, 2.5, 0.0, 1.0, -4.0].map(|x| x * scale);
        assert_eq!(
            found.unwrap()[0].iter().copied().collect::<Vec<_>>(),
            wanted
        );
    }
}

#[test]
fn pictures_do_not_depend_on_binding() {
    let picture = |io_binding, memory| {
        let options = RuntimeOptions {
            io_binding,
            memory,
            ..RuntimeOptions::default()
        };
        run(options, &request(24))
    };
    let loose = picture(IoBinding::Never, MemoryPolicy::Keep);
    for memory in [MemoryPolicy::Keep, MemoryPolicy::Sequential] {
        assert_eq!(picture(IoBinding::Always, memory), loose);
    }
}
