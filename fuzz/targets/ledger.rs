//! `.diffbir-ledger.jsonl` in the folder of results.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use diffbir::config::Existing;
use diffbir::service::ledger::{Known, Ledger, Planned, Standing};
use serde_json::json;

use super::{expect_blame, folder};

/// What a ledger of some kB may take.
pub const BYTES: usize = 64_000_000;

const FILE: &str = ".diffbir-ledger.jsonl";

/// Plans, and now and then begins, a run in a folder with this ledger.
pub fn run(bytes: &[u8]) {
    let folder = place();
    std::fs::write(folder.join(FILE), bytes).unwrap();
    let planned: Vec<Planned> = ["a", "b", "sub/c"].map(picture).into();
    let settings = json!({"steps": 4, "seed": 231});
    let all = [
        Existing::Refuse,
        Existing::Overwrite,
        Existing::Skip,
        Existing::Resume,
    ];
    for existing in all {
        let standings = Ledger::preview(folder, &settings, &planned, existing);
        if let Ok(standings) = standings.inspect_err(expect_blame) {
            assert_eq!(standings[Path::new("b.png")], Standing::Missing);
            // Nothing but the ledger says that the file is ours.
            if existing == Existing::Resume {
                let text = String::from_utf8_lossy(bytes);
                assert!(text.contains("a.png") || text.contains("\\u00"), "{text}");
            }
        }
    }
    if let Ok(known) = Known::of(folder).inspect_err(expect_blame) {
        known.contains(&folder.join("a.png"));
    }
    if bytes.len().is_multiple_of(8) {
        let ledger = Ledger::open(folder, &settings, &planned, Existing::Resume);
        if let Ok(ledger) = ledger.inspect_err(expect_blame) {
            ledger.check().unwrap();
            ledger.close().unwrap();
        }
    }
}

fn picture(name: &str) -> Planned {
    Planned {
        input: place().join(format!("{name}.jpg")),
        name: format!("{name}.jpg").into(),
        caption: String::new(),
        results: vec![format!("{name}.png").into()],
    }
}

/// A folder with one picture and one result.
pub fn place() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let folder = folder("ledger");
        std::fs::write(folder.join("a.jpg"), "input").unwrap();
        std::fs::write(folder.join("a.png"), "result").unwrap();
        folder
    })
}
