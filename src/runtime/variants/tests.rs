use super::*;
use crate::nets::contract::GraphKind;

fn variant(name: &str, provider: ProviderKind, role: Role) -> VariantFile {
    VariantFile {
        name: name.to_owned(),
        provider,
        path: PathBuf::from(format!("denoiser.{name}.onnx")),
        role,
        int8: false,
        shares_prefix: true,
        features: Some("deep".to_owned()),
        values_per_pixel: 32,
    }
}

/// A denoiser; int8 comes first, so that the order decides nothing.
fn denoiser(has_int8: bool) -> GraphFile {
    use ProviderKind::{Cpu, Cuda};
    let exact = [
        variant("cpu", Cpu, Role::Whole),
        variant("cpu-shallow", Cpu, Role::Shallow),
        variant("cpu-parts", Cpu, Role::Parts),
        variant("cuda", Cuda, Role::Whole),
        variant("cuda-shallow", Cuda, Role::Shallow),
    ];
    let int8 = has_int8.then(|| VariantFile {
        int8: true,
        ..variant("cpu-int8", Cpu, Role::Whole)
    });
    GraphFile {
        name: "denoiser".to_owned(),
        kind: GraphKind::Denoiser,
        path: PathBuf::from("denoiser.onnx"),
        segments: None,
        bytes: 0,
        variants: int8.into_iter().chain(exact).collect(),
        hashes: Vec::new(),
    }
}

fn on(providers: Vec<Provider>) -> RuntimeOptions {
    RuntimeOptions {
        library: PathBuf::from("/nowhere/libonnxruntime.so").into(),
        providers,
        ..RuntimeOptions::default()
    }
}

fn in_int8(int8: bool) -> RuntimeOptions {
    RuntimeOptions {
        int8,
        ..RuntimeOptions::default()
    }
}

fn chosen(graph: &GraphFile, options: &RuntimeOptions) -> Option<String> {
    graph.info(options).variant
}

#[test]
fn the_first_providers_variant_is_taken() {
    use ProviderKind::{Cpu, Cuda, Tensorrt};
    let of = |kinds: &[ProviderKind]| {
        let providers = kinds.iter().copied().map(Provider::new).collect();
        chosen(&denoiser(true), &on(providers))
    };
    assert_eq!(of(&[Cuda]).as_deref(), Some("cuda"));
    assert_eq!(of(&[Cuda, Cpu]).as_deref(), Some("cuda"));
    assert_eq!(of(&[Cpu]).as_deref(), Some("cpu"));
    // TensorRT cannot run CUDA's operators, although CUDA is next in the list.
    assert_eq!(of(&[Tensorrt, Cuda, Cpu]), None);
    let mut without = on(vec![Provider::new(Cuda)]);
    without.variants = false;
    assert_eq!(chosen(&denoiser(true), &without), None);
}

#[test]
fn a_graph_has_what_there_is_of_its_provider() {
    let graph = denoiser(false);
    let info = |kind| graph.info(&on(vec![Provider::new(kind)]));
    for kind in [ProviderKind::Cpu, ProviderKind::Cuda] {
        let info = info(kind);
        assert_eq!(info.features.unwrap().shallow, "denoiser/shallow");
        assert_eq!(info.split, None);
    }
    let mut graph = denoiser(false);
    for role in [Role::Control, Role::Unet] {
        assert_eq!(graph.info(&RuntimeOptions::default()).split, None);
        graph
            .variants
            .push(variant("half", ProviderKind::Cpu, role));
    }
    let split = graph.info(&RuntimeOptions::default()).split.unwrap();
    assert_eq!(
        (split.values_per_pixel, split.unet.as_str()),
        (32, "denoiser/unet")
    );
}

#[test]
fn a_provider_that_is_passed_over_has_no_say() {
    let mut cuda = Provider::new(ProviderKind::Cuda);
    cuda.optional = true;
    let options = on(vec![cuda, Provider::new(ProviderKind::Cpu)]);
    assert_eq!(chosen(&denoiser(true), &options).as_deref(), Some("cpu"));
}

#[test]
fn int8_runs_only_if_it_is_asked_for() {
    assert!(!RuntimeOptions::default().int8);
    let (with, without) = (denoiser(true), denoiser(false));
    assert_eq!(chosen(&with, &in_int8(false)).as_deref(), Some("cpu"));
    assert_eq!(chosen(&with, &in_int8(true)).as_deref(), Some("cpu-int8"));
    assert_eq!(chosen(&without, &in_int8(true)).as_deref(), Some("cpu"));
}

#[test]
fn what_int8_leaves_is_taken_up_in_f32() {
    let graph = denoiser(true);
    let taken = graph.variant(&in_int8(true), Role::Shallow).unwrap();
    assert_eq!(taken.name, "cpu-shallow");
    let features = graph.info(&in_int8(true)).features.unwrap();
    assert_eq!(features.shallow, "denoiser/shallow");
}

#[cfg(feature = "onnx")]
#[test]
fn int8_that_cannot_run_is_refused() {
    use crate::error::ErrorKind;

    let check = |has_int8, options: &RuntimeOptions| {
        crate::runtime::check::check_int8(&[denoiser(has_int8)], options)
    };
    check(true, &in_int8(true)).unwrap();
    check(false, &in_int8(false)).unwrap();
    let error = check(false, &in_int8(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bundle);
    assert_eq!(error.kind().exit_code(), 3);
    assert!(error.to_string().contains("diffbir_export.quantize"));
    let blocked = [
        RuntimeOptions {
            variants: false,
            ..in_int8(true)
        },
        RuntimeOptions {
            memory: MemoryPolicy::Least,
            ..in_int8(true)
        },
        RuntimeOptions {
            providers: vec![Provider::new(ProviderKind::Cuda)],
            ..in_int8(true)
        },
    ];
    for options in blocked {
        let error = check(true, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option, "{error}");
    }
}
