//! A graph in segments: bands give what the whole gives, wherever activations lie and whatever runs out of memory.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::cell::RefCell;

use diffbir::canvas::{Place, Store};
use diffbir::error::{Error, ErrorKind, Result};
use diffbir::nets::segments::{BandHeight, Bands, MOST_KEYS, SegmentPlan};
use diffbir::nets::{Input, Network, Networks};
use ndarray::{Array4, ArrayD, Axis, Ix4, concatenate, s};

/// Filter, normalise and double, normalise with a shortcut and halve, attend.
const PLAN: &str = r#"{
    "version": 1, "input": "image", "output": "out",
    "canvases": {
        "image": { "channels": 2, "scale": [1, 1] }, "a": { "channels": 4, "scale": [1, 1] },
        "b": { "channels": 4, "scale": [2, 1] }, "c": { "channels": 2, "scale": [1, 1] },
        "q": { "channels": 2, "scale": [1, 1] }, "out": { "channels": 2, "scale": [1, 1] }
    },
    "steps": [
        { "graph": "filter", "norm": null, "bands": ["image"], "outputs": ["a"], "halo": 1 },
        { "graph": "double", "norm": { "canvas": "a", "groups": 2, "eps": 1e-6 }, "bands": ["a"], "outputs": ["b"], "halo": 2 },
        { "graph": "halve", "norm": { "canvas": "b", "groups": 1, "eps": 1e-6 }, "bands": ["b"], "outputs": ["c", "q"], "halo": 2 },
        { "graph": "attend", "norm": null, "bands": ["q", "image"], "whole": ["c"], "outputs": ["out"], "halo": 0 }
    ]
}"#;

/// Computes a segment; refuses more than `most` values at once, as an allocator would.
#[derive(Debug)]
struct Segment {
    name: String,
    most: usize,
}

/// Hands out [`Segment`]s, and remembers how many rows each run saw.
#[derive(Debug)]
struct Segments {
    segment: Segment,
    rows: RefCell<Vec<(String, usize)>>,
}

impl Segments {
    fn new(most: usize) -> Self {
        let segment = Segment {
            name: String::new(),
            most,
        };
        Segments {
            segment,
            rows: RefCell::default(),
        }
    }
}

impl Networks for Segments {
    fn stage(&mut self, _: &[&str], _: bool) {}

    fn get(&mut self, graph: &str) -> Result<&mut dyn Network> {
        Err(Error::bundle(format!("`{graph}` runs in segments alone")))
    }

    fn segment(&mut self, _: &str, segment: &str) -> Result<&mut dyn Network> {
        self.segment.name = segment.to_owned();
        Ok(self)
    }
}

impl Network for Segments {
    fn run(&mut self, inputs: &[(&str, Input<'_>)], outputs: &[&str]) -> Result<Vec<ArrayD<f32>>> {
        let rows = inputs[0].1.shape()[2];
        self.rows
            .borrow_mut()
            .push((self.segment.name.clone(), rows));
        self.segment.run(inputs, outputs)
    }
}

impl Network for Segment {
    fn run(&mut self, inputs: &[(&str, Input<'_>)], _: &[&str]) -> Result<Vec<ArrayD<f32>>> {
        let get = |name: &str| -> Array4<f32> {
            let found = inputs.iter().find(|(given, _)| *given == name).unwrap();
            let Input::F32(array) = &found.1 else {
                panic!("{name} holds no floats")
            };
            array.to_owned().into_dimensionality::<Ix4>().unwrap()
        };
        let x = get("band_0");
        if x.len() > self.most {
            return Err(Error::new(
                ErrorKind::Resources,
                "Failed to allocate memory",
            ));
        }
        let normed = || (&x - &get("mean")) * get("rstd");
        let made = match self.name.as_str() {
            "filter" => {
                let y = filter(&x);
                vec![concatenate(Axis(1), &[y.view(), (&y * 3.0 + 1.0).view()]).unwrap()]
            }
            "double" => vec![filter(&doubled(&filter(&normed())))],
            "halve" => {
                let y = filter(&normed()).slice(s![.., 2.., ..;2, ..;2]).to_owned();
                vec![y.clone(), y * 0.5]
            }
            // Every cell sees the mean of all keys.
            "attend" => {
                let keys = get("whole_0")
                    .mean_axis(Axis(3))
                    .unwrap()
                    .mean_axis(Axis(2))
                    .unwrap();
                let keys = keys.insert_axis(Axis(2)).insert_axis(Axis(3));
                vec![x * &keys + get("band_1")]
            }
            other => panic!("no segment {other}"),
        };
        Ok(made.into_iter().map(Array4::into_dyn).collect())
    }
}

/// The mean of a cell and its neighbours above and below, with zeros beyond the border, as a convolution pads.
fn filter(x: &Array4<f32>) -> Array4<f32> {
    let height = x.len_of(Axis(2));
    Array4::from_shape_fn(x.dim(), |(n, c, y, k)| {
        let rows = y.saturating_sub(1)..(y + 2).min(height);
        rows.map(|row| x[[n, c, row, k]]).sum::<f32>() / 3.0
    })
}

fn doubled(x: &Array4<f32>) -> Array4<f32> {
    let (n, c, h, w) = x.dim();
    Array4::from_shape_fn((n, c, 2 * h, 2 * w), |(n, c, y, x_)| {
        x[[n, c, y / 2, x_ / 2]]
    })
}

fn picture(height: usize, width: usize) -> Array4<f32> {
    let values = diffbir::rng::TorchCpu::new(7).rand(2 * height * width);
    Array4::from_shape_vec((1, 2, height, width), values).unwrap() * 3.0 + 5.0
}

fn run(
    image: &Array4<f32>,
    height: BandHeight,
    place: Place,
    most: usize,
) -> Result<(Array4<f32>, Segments)> {
    let plan = SegmentPlan::parse(PLAN).unwrap();
    let store = Store::default();
    let bands = Bands {
        plan: &plan,
        graph: "vae",
        height,
        place,
        store: &store,
        most_keys: MOST_KEYS,
    };
    let mut networks = Segments::new(most);
    let (_, _, h, w) = image.dim();
    let read = |rows| Ok(image.slice(s![.., .., rows, ..]).to_owned());
    let seen = RefCell::new(Vec::new());
    let on_tile = |k, count| {
        seen.borrow_mut().push((k, count));
        Ok(())
    };
    let made = bands.run(&mut networks, (h, w), &read, &on_tile)?;
    let seen = seen.into_inner();
    assert!(
        seen.iter()
            .enumerate()
            .all(|(k, (told, count))| k == *told && k < *count)
    );
    Ok((made.to_array()?, networks))
}

fn largest_difference(a: &Array4<f32>, b: &Array4<f32>) -> f32 {
    (a - b).iter().fold(0.0, |most, d| most.max(d.abs()))
}

#[test]
fn bands_give_what_the_whole_gives() {
    for (h, w) in [(24, 5), (1, 7), (30, 1)] {
        let image = picture(h, w);
        let (whole, _) = run(&image, BandHeight::Rows(1000), Place::Memory, usize::MAX).unwrap();
        for place in [Place::Memory, Place::Disk] {
            for rows in [1, 2, 5, 7] {
                let (made, _) = run(&image, BandHeight::Rows(rows), place, usize::MAX).unwrap();
                let difference = largest_difference(&made, &whole);
                assert!(
                    difference < 1e-5,
                    "{h}x{w} in bands of {rows}: {difference}"
                );
            }
        }
    }
}

#[test]
fn without_shared_statistics_bands_would_differ() {
    let image = picture(24, 5);
    let (whole, _) = run(&image, BandHeight::Rows(1000), Place::Memory, usize::MAX).unwrap();
    let half = image.slice(s![.., .., ..12, ..]).to_owned();
    let (part, _) = run(&half, BandHeight::Rows(1000), Place::Memory, usize::MAX).unwrap();
    let inside = whole.slice(s![.., .., ..8, ..]).to_owned();
    let difference = largest_difference(&part.slice(s![.., .., ..8, ..]).to_owned(), &inside);
    assert!(difference > 1e-2, "the test would not notice: {difference}");
}

#[test]
fn a_band_that_runs_out_of_memory_is_halved_and_what_was_made_is_kept() {
    let image = picture(64, 5);
    let (whole, _) = run(&image, BandHeight::Rows(1000), Place::Memory, usize::MAX).unwrap();
    let (made, networks) = run(&image, BandHeight::Rows(64), Place::Memory, 400).unwrap();
    assert!(largest_difference(&made, &whole) < 1e-5);
    let rows = networks.rows.into_inner();
    let of_step = |step: &str| -> Vec<usize> {
        rows.iter()
            .filter(|(name, _)| name == step)
            .map(|(_, rows)| *rows)
            .collect()
    };
    // The whole fails, both halves are made; then the whole and a half fail, and four quarters are made.
    assert_eq!(of_step("filter"), [64, 33, 33]);
    assert_eq!(of_step("double"), [64, 34, 18, 20, 20, 18]);
}

#[test]
fn where_not_even_one_row_fits_the_error_says_so() {
    let error = run(&picture(8, 5), BandHeight::Rows(4), Place::Memory, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Resources);
}

#[test]
fn a_band_is_as_high_as_memory_allows() {
    let image = picture(64, 6);
    let plan = SegmentPlan::parse(PLAN).unwrap();
    let least = Bands::least_bytes(&plan, (64, 6), MOST_KEYS);
    // The most rows that each segment was given, halo included, and the fewest it can do with.
    let fewest = [("filter", 3), ("double", 5), ("halve", 6), ("attend", 1)];
    let highest = |bytes| {
        let (_, networks) =
            run(&image, BandHeight::Memory(bytes), Place::Memory, usize::MAX).unwrap();
        let rows = networks.rows.into_inner();
        fewest.map(|(step, _)| {
            let of_step = rows
                .iter()
                .filter(|(name, _)| name == step)
                .map(|(_, rows)| *rows);
            of_step.max().unwrap()
        })
    };
    let (low, high) = (highest(least), highest(8 * least));
    let at_its_fewest = |k: usize| low[k] == fewest[k].1;
    assert!(
        (0..4).any(at_its_fewest),
        "the most expensive segment: {low:?}"
    );
    assert!(
        (0..4).all(|k| high[k] >= low[k]) && high != low,
        "{low:?} {high:?}"
    );
    assert_eq!(highest(u64::MAX / 2), [64, 64, 128, 64]);
}

#[test]
fn plans_that_do_not_fit_together_are_refused() {
    assert!(SegmentPlan::parse(PLAN).is_ok());
    for (from, to) in [
        (r#""version": 1"#, r#""version": 2"#),
        (r#""output": "out""#, r#""output": "nothing""#),
        (r#""bands": ["a"]"#, r#""bands": ["c"]"#),
        (r#""groups": 2"#, r#""groups": 3"#),
        (r#""bands": ["q", "image"]"#, r#""bands": ["q", "b"]"#),
        (r#""scale": [2, 1]"#, r#""scale": [4, 1]"#),
        (r#""scale": [2, 1]"#, r#""scale": [0, 1]"#),
        (r#""outputs": ["a"]"#, r#""outputs": ["z"]"#),
    ] {
        assert!(PLAN.contains(from));
        let error = SegmentPlan::parse(&PLAN.replace(from, to)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bundle, "{to}");
    }
}
