//! Against what the reference implementation computed, where its results are at hand (see
//! `common::reference_folder`). Each test prints `GOLDEN RAN: …` or `SKIPPED (no reference goldens): …`.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

#[path = "../common/analytic.rs"]
mod analytic;

mod guidance;
mod pictures;
mod rng;
mod samplers;
mod schedule;
mod tiled;
