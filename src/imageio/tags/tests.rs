//! Tags read and laid out.

use super::*;

fn sample() -> Exif {
    let text = Value::raw(2, b"a camera\0");
    Exif {
        main: Directory::from([(271, text.clone()), (ORIENTATION, Value::shorts(&[1]))]),
        camera: Directory::from([(33434, Value::of(5, 1, vec![1, 0, 0, 0, 50, 0, 0, 0]))]),
        place: Directory::from([(1, Value::raw(2, b"N\0"))]),
    }
}

#[test]
fn what_is_written_is_read() {
    let bytes = sample().to_bytes();
    assert_eq!(bytes.len(), 8 + sample().size());
    assert_eq!(Exif::read(&bytes), Some(sample()));
}

#[test]
fn the_other_order_is_understood() {
    let mut bytes = b"MM\0*\0\0\0\x08\0\x02".to_vec();
    bytes.extend([1, 0x0e, 0, 5, 0, 0, 0, 1, 0, 0, 0, 38]); // a fraction
    bytes.extend([1, 0x0f, 0, 3, 0, 0, 0, 1, 0, 2, 0, 0]); // a number
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 72, 0, 0, 0, 1]);
    let exif = Exif::read(&bytes).unwrap();
    assert_eq!(exif.main[&270].bytes, [72, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(exif.main[&271], Value::shorts(&[2]));
}

#[test]
fn damaged_directories_are_cut_short_and_cost_no_memory() {
    let bytes = sample().to_bytes();
    for length in 0..bytes.len() {
        let _ = Exif::read(&bytes[..length]);
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 7, 255] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            if let Some(exif) = Exif::read(&bytes) {
                assert!(exif.size() < 4 * bytes.len());
            }
        }
    }
    assert_eq!(Exif::read(b"II*\0\x08\0\0\0\0\0\0\0\0\0"), None);
}
