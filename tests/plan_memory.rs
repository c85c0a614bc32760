//! Plans take the same little memory whatever the size of the picture: counted by the allocator of this program.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "common/fakes.rs"]
#[allow(dead_code)] // a plan runs no network
mod fakes;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use diffbir::engine::Engine;
use diffbir::options::{DenoiserTiles, Options};
use diffbir::tiling::{EvenTiles, Tiles};

/// Counts the bytes that are handed out.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), SeqCst) + layout.size();
        PEAK.fetch_max(now, SeqCst);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that a plan for a picture of `lq` takes at most.
fn plan_bytes(engine: &Engine, lq: (usize, usize), options: &Options) -> usize {
    let before = NOW.load(SeqCst);
    PEAK.store(before, SeqCst);
    engine.plan(lq, options).unwrap();
    PEAK.load(SeqCst) - before
}

#[test]
fn a_plan_takes_no_more_memory_for_a_large_picture() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = fakes::write_bundle(dir.path(), "swinir", 1, 64);
    let (networks, _) = fakes::FakeNetworks::of(&bundle);
    let engine = Engine::from_networks(bundle, Box::new(networks));
    let mut options = Options::default();
    options.restore.upscale = Some(1.0);
    options.tiling.memory_budget = Some("100000TB".parse().unwrap());
    for tiles in [
        DenoiserTiles::Auto,
        DenoiserTiles::Reference(Tiles {
            size: 64,
            stride: 8,
        }),
        DenoiserTiles::Even(EvenTiles {
            size: 64,
            overlap: 32,
        }),
    ] {
        options.tiling.cldm = tiles;
        let small = plan_bytes(&engine, (256, 256), &options);
        for lq in [(16_384, 131_072), (46_340, 46_340), (131_072, 16_384)] {
            let large = plan_bytes(&engine, lq, &options);
            assert!(
                large < small + (16 << 10),
                "{tiles:?} {lq:?}: {large} bytes, {small} for a small one"
            );
        }
    }
}
