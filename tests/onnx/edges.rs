//! The right and bottom edge of pictures that networks have to pad, with the demo's networks.

use diffbir::bundle::Bundle;
use diffbir::engine::{Engine, Request};
use diffbir::imageio::Rgb;
use diffbir::nets::{Networks, vae};
use diffbir::options::Options;
use diffbir::pipeline::{Event, Intermediate};
use diffbir::runtime::{RuntimeOptions, Sessions};
use diffbir::schedule::Fidelity;
use ndarray::{Array4, Axis, s};

use crate::program::Program;
use crate::tiles::{demo, demo_picture};

/// By how many levels the mean of a row or column may be off, beyond what it is off without padding. Stage 1 of the whole
/// picture, with which it is compared here, saw more than the crop; against clean pictures (`benches/edges.py`) 2 levels
/// are enough.
const BOUND: f32 = 8.0;

/// What is compared of a run, all in `[0, 1]`.
struct Shown {
    stage1: Array4<f32>,
    /// Stage 1 through the VAE.
    decoded: Array4<f32>,
    result: Array4<f32>,
}

struct Bench {
    engine: Engine,
    sessions: Sessions,
}

impl Bench {
    fn new() -> Self {
        Program::new();
        let bundle = Bundle::open(&demo()).unwrap();
        Bench {
            sessions: Sessions::new(bundle.graph_files(), RuntimeOptions::default()),
            engine: Engine::open(bundle, RuntimeOptions::default()),
        }
    }

    fn run(&mut self, lq: Rgb, fidelity: Fidelity) -> Shown {
        let mut options = Options::default();
        options.restore.fidelity = fidelity;
        options.sampling.steps = 4;
        let (mut stage1, mut c_img) = (None, None);
        let mut keep = |event: Event<'_>| {
            match event {
                Event::Picture(Intermediate::Stage1, _, x) => stage1 = Some(x.to_array()?),
                Event::Tensor(Intermediate::CImg, _, x) => c_img = Some(x.clone()),
                _ => {}
            }
            Ok(())
        };
        let restored = self
            .engine
            .restore(&Request::new(lq, options), &mut keep)
            .unwrap();
        let decoder = self.sessions.get("vae_decoder").unwrap();
        let decoded = vae::decode(decoder, &c_img.unwrap()).unwrap();
        let stage1: Array4<f32> = stage1.unwrap();
        let (_, _, h, w) = stage1.dim();
        let result = restored.samples[0].to_u8().mapv(|x| f32::from(x) / 255.0);
        let result = result.permuted_axes([2, 0, 1]).insert_axis(Axis(0));
        Shown {
            decoded: decoded
                .slice(s![.., .., ..h, ..w])
                .mapv(|x| (x + 1.0) / 2.0),
            stage1,
            result,
        }
    }
}

/// The largest difference of the means of the last 8 rows and columns from those of the window of `expected` whose
/// bottom right corner is at (y, x), in levels of 255.
fn line(found: &Array4<f32>, expected: &Array4<f32>, (y, x): (usize, usize)) -> f32 {
    let (_, _, h, w) = found.dim();
    let difference = found - &expected.slice(s![.., .., y - h..y, x - w..x]);
    let rows = (h - 8..h).map(|y| difference.slice(s![.., .., y, ..]).mean());
    let columns = (w - 8..w).map(|x| difference.slice(s![.., .., .., x]).mean());
    let means = rows.chain(columns).map(|mean| mean.unwrap().abs() * 255.0);
    means.fold(0.0, f32::max)
}

/// Pictures whose result is no multiple of 64, and crops of them with the same right and bottom edge that are, which
/// nothing pads. Stage 1 is compared with that of the whole picture, which goes on behind the edge.
#[test]
fn no_line_shows_where_a_picture_is_padded() {
    let mut bench = Bench::new();
    for (name, (height, width)) in [
        ("astronaut", (90, 90)),
        ("chelsea", (83, 95)),
        ("coffee", (95, 70)),
    ] {
        let lq = demo_picture(name);
        let crop = lq.slice(s![..height, ..width, ..]).to_owned();
        let aligned = crop.slice(s![height % 16.., width % 16.., ..]).to_owned();
        let whole = bench.run(lq, Fidelity::Sound).stage1;
        let lines = |shown: &Shown| {
            let (_, _, h, w) = shown.stage1.dim();
            [
                line(&shown.stage1, &whole, (4 * height, 4 * width)),
                line(&shown.decoded, &shown.stage1, (h, w)),
                line(&shown.result, &shown.stage1, (h, w)),
            ]
        };
        let aligned = lines(&bench.run(aligned, Fidelity::Sound));
        let mut beyond = |fidelity| -> Vec<f32> {
            let found = lines(&bench.run(crop.clone(), fidelity));
            found
                .iter()
                .zip(aligned)
                .map(|(line, there)| line - there)
                .collect()
        };
        let (sound, black) = (beyond(Fidelity::Sound), beyond(Fidelity::Reference));
        eprintln!("{name}: {sound:?} levels, with black padding {black:?}");
        assert!(sound.iter().all(|line| *line <= BOUND), "{name}: {sound:?}");
        assert!(black[0] > BOUND, "{name}: {black:?}");
    }
}
