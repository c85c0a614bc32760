//! The demo bundle's graphs in all their forms on real ONNX Runtime: plain, for the CPU, shallow, in parts.

use super::*;
use diffbir::nets::GraphInfo;

fn demo() -> Bundle {
    Program::new();
    Bundle::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/demo")).unwrap()
}

fn sessions(variants: bool, memory: MemoryPolicy) -> Sessions {
    let options = RuntimeOptions {
        variants,
        memory,
        ..RuntimeOptions::default()
    };
    Sessions::new(demo().graph_files(), options)
}

/// Values that repeat nowhere soon.
fn wave(shape: &[usize], step: f32) -> ArrayD<f32> {
    let count = shape.iter().product::<usize>();
    let values = (0..count).map(|i| (i as f32 * step).sin() * 1.5).collect();
    ArrayD::from_shape_vec(shape, values).unwrap()
}

/// Two pictures of two branches through the denoiser, row `branch * 2 + picture`.
struct Asked {
    x: ArrayD<f32>,
    hint: ArrayD<f32>,
    context: ArrayD<f32>,
    timestep: Array1<f32>,
    strength: Array1<f32>,
}

impl Asked {
    fn new() -> Self {
        let width = demo().manifest().contexts.as_ref().unwrap().width;
        Asked {
            x: wave(&[2, 4, 32, 48], 0.37),
            hint: wave(&[2, 4, 32, 48], 0.11),
            context: wave(&[4, 77, width], 0.53),
            timestep: Array1::from(vec![700.0, 31.5]),
            strength: Array1::from_elem(13, 0.9),
        }
    }

    /// The outputs `names` of network `name`, with `more` as another input.
    fn of(
        &self,
        networks: &mut Sessions,
        name: &str,
        names: &[&str],
        more: Option<(&str, &ArrayD<f32>)>,
    ) -> Vec<ArrayD<f32>> {
        let is_shared = networks.info().graph("denoiser").shares_prefix;
        let network = networks.get(name).unwrap();
        let more: Vec<_> = more.into_iter().collect();
        self.run(network, is_shared, names, &[], &more)
    }

    /// The outputs `names` of `network`, without the inputs `less` and with `more`.
    fn run(
        &self,
        network: &mut dyn Network,
        is_shared: bool,
        names: &[&str],
        less: &[&str],
        more: &[(&str, &ArrayD<f32>)],
    ) -> Vec<ArrayD<f32>> {
        let twice = |x: &ArrayD<f32>| concatenate(Axis(0), &[x.view(), x.view()]).unwrap();
        let rows = |x: &ArrayD<f32>| if is_shared { x.clone() } else { twice(x) };
        let (x, hint) = (rows(&self.x), rows(&self.hint));
        let timestep = rows(&self.timestep.clone().into_dyn());
        let mut inputs: Vec<(&str, Input<'_>)> = vec![
            ("x", (&x).into()),
            ("hint", (&hint).into()),
            ("timestep", (&timestep).into()),
            ("context", (&self.context).into()),
            ("strength", (&self.strength).into()),
        ];
        inputs.retain(|(name, _)| !less.contains(name));
        inputs.extend(more.iter().map(|(name, value)| (*name, (*value).into())));
        network.run(&inputs, names).unwrap()
    }
}

fn relative(a: &ArrayD<f32>, b: &ArrayD<f32>) -> f32 {
    assert_eq!(a.shape(), b.shape());
    let rms = |x: ArrayD<f32>| x.mapv(|x| x * x).mean().unwrap().sqrt();
    rms(a - b) / rms(b.clone())
}

#[test]
fn the_denoisers_forms_agree() {
    let asked = Asked::new();
    let mut plain = sessions(false, MemoryPolicy::Keep);
    assert_eq!(plain.info().graph("denoiser"), GraphInfo::default());
    let wanted = asked
        .of(&mut plain, "denoiser", &["output"], None)
        .remove(0);

    let mut whole = sessions(true, MemoryPolicy::Keep);
    let info = whole.info().graph("denoiser");
    assert!(info.shares_prefix);
    let features = info.features.unwrap();
    let names = ["output", features.tensor.as_str()];
    let found = asked.of(&mut whole, "denoiser", &names, None);
    let [output, state] = <[ArrayD<f32>; 2]>::try_from(found).unwrap();
    let more = Some((features.tensor.as_str(), &state));
    let shallow = asked
        .of(&mut whole, &features.shallow, &["output"], more)
        .remove(0);

    let split = info.split.unwrap();
    let control = whole.get(&split.control).unwrap();
    let names: Vec<String> = (0..13).map(|k| format!("control_{k}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let residuals = asked.run(control, true, &names, &[], &[]);
    let given: Vec<(&str, &ArrayD<f32>)> = names.into_iter().zip(&residuals).collect();
    let unet = whole.get(&split.unet).unwrap();
    let less = ["hint", "strength"];
    let halved = asked.run(unet, true, &["output"], &less, &given).remove(0);

    let mut least = sessions(true, MemoryPolicy::Least);
    let info = least.info().graph("denoiser");
    assert_eq!(info.variant.as_deref(), Some("cpu-parts"));
    assert_eq!(info.features, None);
    let parts = asked
        .of(&mut least, "denoiser", &["output"], None)
        .remove(0);
    let found = [
        ("whole", output),
        ("shallow", shallow),
        ("halves", halved),
        ("parts", parts),
    ];
    for (name, found) in found {
        let difference = relative(&found, &wanted);
        eprintln!("{name}: {difference:e} from the plain graph");
        assert!(difference < 1e-5, "{name}: {difference:e}");
    }
    let provider = least.info().graph("denoiser").provider;
    assert_eq!(provider.as_deref(), Some("CPUExecutionProvider"));
}

#[test]
fn pictures_do_not_depend_on_the_form() {
    let picture = |variants, memory| {
        let options = RuntimeOptions {
            variants,
            memory,
            ..RuntimeOptions::default()
        };
        let engine = Engine::open(demo(), options);
        let restored = engine.restore(&request(70), &mut |_| Ok(())).unwrap();
        let variants = restored.provenance.graphs.values();
        let variants: Vec<_> = variants.filter_map(|ran| ran.variant.clone()).collect();
        (restored.samples[0].to_u8().mapv(i32::from), variants)
    };
    let (plain, none) = picture(false, MemoryPolicy::Keep);
    assert!(none.is_empty(), "{none:?}");
    for (memory, denoiser) in [
        (MemoryPolicy::Keep, "cpu"),
        (MemoryPolicy::Least, "cpu-parts"),
    ] {
        let (found, variants) = picture(true, memory);
        // Sorted by the graphs' names: cleaner, denoiser, decoder, encoder.
        assert_eq!(variants, ["cpu", denoiser, "cpu", "cpu"]);
        let differences = (&found - &plain).mapv(i32::abs);
        assert!(differences.iter().all(|&difference| difference <= 1));
        let mean = differences.mapv(f64::from).mean().unwrap();
        assert!(mean < 1e-3, "{mean}");
    }
}
