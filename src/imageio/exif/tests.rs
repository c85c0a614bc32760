//! Tags read and written.

use super::*;

fn sample() -> Exif {
    Exif {
        main: Directory::from([
            (271, Value::text("a camera")),
            (ORIENTATION, Value::shorts(&[1])),
        ]),
        camera: Directory::from([(33434, Value::ratio(0.02)), (SIDES[0], Value::longs(&[9]))]),
        place: Directory::from([(1, Value::text("N"))]),
        is_adobe_rgb: false,
    }
}

/// Without where values lie.
fn read(bytes: &[u8]) -> Option<Exif> {
    let mut exif = Exif::read(bytes)?;
    for directory in [&mut exif.main, &mut exif.camera, &mut exif.place] {
        directory.values_mut().for_each(|value| value.at = 0);
    }
    Some(exif)
}

#[test]
fn what_is_written_is_read() {
    let bytes = sample().to_bytes().unwrap();
    assert_eq!(read(&bytes), Some(sample()));
}

#[test]
fn size_resolution_and_place_are_edited() {
    let mut exif = sample();
    exif.strip_place();
    exif.describe((3, 7), Resolution::of(300.0, 72.5));
    let bytes = exif.to_bytes().unwrap();
    assert_eq!(Exif::resolution(&bytes), Resolution::of(300.0, 72.5));
    let exif = read(&bytes).unwrap();
    assert_eq!(exif.camera[&SIDES[0]], Value::longs(&[7]));
    assert!(exif.place.is_empty() && !exif.camera.contains_key(&SIDES[1]));
}

#[test]
fn a_makers_note_stays_where_it_was() {
    let mut exif = sample();
    let note = Value {
        at: 200,
        ..Value::undefined(b"it points to byte 210")
    };
    exif.camera.insert(MAKER_NOTE, note);
    let bytes = exif.to_bytes().unwrap();
    assert_eq!(&bytes[200..221], b"it points to byte 210");
    let again = Exif::read(&bytes).unwrap().to_bytes().unwrap();
    assert_eq!(&again[200..221], b"it points to byte 210");
}

#[test]
fn the_other_order_is_understood() {
    let mut bytes = b"MM\0*\0\0\0\x08\0\x02".to_vec();
    bytes.extend([1, 0x0e, 0, 5, 0, 0, 0, 1, 0, 0, 0, 38]); // a fraction
    bytes.extend([1, 0x0f, 0, 3, 0, 0, 0, 1, 0, 2, 0, 0]); // a number
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 72, 0, 0, 0, 1]);
    let exif = read(&bytes).unwrap();
    assert_eq!(exif.main[&270], Value::ratio(72.0));
    assert_eq!(exif.main[&271], Value::shorts(&[2]));
}

#[test]
fn damaged_directories_are_cut_short_and_cost_no_memory() {
    let bytes = sample().to_bytes().unwrap();
    for length in 0..bytes.len() {
        let _ = Exif::read(&bytes[..length]);
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 7, 255] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            let written = Exif::read(&bytes).and_then(|exif| exif.to_bytes());
            assert!(written.is_none_or(|written| written.len() < 8 * bytes.len()));
        }
    }
    assert_eq!(Exif::read(b"II*\0\x08\0\0\0\0\0\0\0\0\0"), None);
}
