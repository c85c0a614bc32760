//! TIFF files as programs other than ours write them: colours are converted right, or refused, or it is said.

use diffbir::imageio::{DecodeOptions, Picture, Pixels, decode};
use ndarray::s;

use crate::kinds::LIMIT;

/// A tag, the kind of its values, and these.
pub type Tag = (u16, u16, Vec<u32>);

/// A file of one strip: tags with kind (1 bytes, 3 shorts, 4 longs) and values, which come to lie behind the pixels.
pub fn tiff(wide: bool, pixels: &[u8], tags: &[Tag]) -> Vec<u8> {
    let room = if wide { 8 } else { 4 };
    let number = |value: usize, length: usize| (value as u64).to_le_bytes()[..length].to_vec();
    let start = 2 * room;
    let mut all = tags.to_vec();
    all.push((273, 4, vec![start as u32]));
    all.push((279, 4, vec![pixels.len() as u32]));
    all.sort_by_key(|(tag, ..)| *tag);
    let mut file = if wide {
        b"II+\0\x08\0\0\0".to_vec()
    } else {
        b"II*\0".to_vec()
    };
    let mut values = pixels.to_vec();
    values.resize(values.len().next_multiple_of(2), 0);
    let mut directory = number(all.len(), if wide { 8 } else { 2 });
    for (tag, kind, numbers) in &all {
        let length = [1, 1, 2, 4][usize::from(*kind) - 1];
        let bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|x| x.to_le_bytes()[..length].to_vec())
            .collect();
        directory.extend(tag.to_le_bytes());
        directory.extend(kind.to_le_bytes());
        directory.extend(number(numbers.len(), room));
        let mut place = bytes.clone();
        if bytes.len() > room {
            place = number(start + values.len(), room);
            values.extend(&bytes);
            values.resize(values.len().next_multiple_of(2), 0);
        }
        place.resize(room, 0);
        directory.extend(place);
    }
    directory.extend(number(0, room));
    file.extend(number(start + values.len(), room));
    assert_eq!(file.len(), start);
    file.extend(values);
    file.extend(directory);
    file
}

pub fn tags(size: (u32, u32), bits: u32, samples: u32, photometric: u32) -> Vec<Tag> {
    vec![
        (256, 4, vec![size.0]),
        (257, 4, vec![size.1]),
        (258, 3, vec![bits; samples as usize]),
        (259, 3, vec![1]),
        (262, 3, vec![photometric]),
        (277, 3, vec![samples]),
        (278, 4, vec![size.1]),
    ]
}

pub fn with_tags(tags: Vec<Tag>, more: &[Tag]) -> Vec<Tag> {
    let mut tags = tags;
    tags.retain(|(tag, ..)| more.iter().all(|(other, ..)| other != tag));
    tags.extend(more.iter().cloned());
    tags
}

fn read(bytes: &[u8]) -> Picture {
    decode(bytes, LIMIT).unwrap()
}

fn colors(picture: &Picture) -> Vec<u8> {
    picture.pixels.to_u8().iter().copied().collect()
}

#[test]
fn whole_numbers_of_32_bits_are_scaled_to_16() {
    let values = [0, u32::MAX / 4, u32::MAX];
    let pixels: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    for photometric in [1, 0] {
        let picture = read(&tiff(false, &pixels, &tags((3, 1), 32, 1, photometric)));
        let Pixels::U16(found) = &picture.pixels else {
            panic!("{:?}", picture.pixels.depth())
        };
        let expected = match photometric {
            1 => [0, 16384, 65535],
            _ => [65535, 49151, 0],
        };
        assert_eq!(found.slice(s![0, .., 0]).to_vec(), expected);
        assert_eq!(picture.dropped, ["bits beyond 16"]);
    }
    // Signed ones have no black and white.
    let signed = with_tags(tags((3, 1), 32, 1, 1), &[(339, 3, vec![2])]);
    let error = decode(&tiff(false, &pixels, &signed), LIMIT).unwrap_err();
    assert!(error.to_string().contains("signed"), "{error}");
}

#[test]
fn floats_beyond_white_are_said() {
    let file = |values: [f32; 3]| {
        let pixels: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        tiff(
            false,
            &pixels,
            &with_tags(tags((3, 1), 32, 1, 1), &[(339, 3, vec![3])]),
        )
    };
    let picture = read(&file([0.0, 0.5, 1.0]));
    assert!(picture.dropped.is_empty());
    assert_eq!(colors(&picture), [0, 0, 0, 128, 128, 128, 255, 255, 255]);
    for values in [[0.0, 0.5, 1.5], [-0.5, 0.5, 1.0], [0.0, f32::NAN, 1.0]] {
        let picture = read(&file(values));
        assert_eq!(picture.dropped, ["values beyond black and white (clipped)"]);
    }
}

#[test]
fn palettes_give_their_colours() {
    let map = |count: usize| {
        let mut map = vec![0_u32; 3 * count];
        (map[2], map[count + 2], map[2 * count + 2]) = (255 * 257, 128 * 257, 3 * 257);
        vec![(320, 3, map)]
    };
    let picture = read(&tiff(
        false,
        &[2, 0],
        &with_tags(tags((2, 1), 8, 1, 3), &map(256)),
    ));
    assert_eq!(colors(&picture), [255, 128, 3, 0, 0, 0]);
    let picture = read(&tiff(
        true,
        &[0x20],
        &with_tags(tags((2, 1), 4, 1, 3), &map(16)),
    ));
    assert_eq!(colors(&picture), [255, 128, 3, 0, 0, 0]);
}

#[test]
fn luma_and_chroma_become_colours() {
    let more = [(530, 3, vec![1, 1])];
    let pixels = [76, 85, 255, 128, 128, 128];
    let picture = read(&tiff(
        false,
        &pixels,
        &with_tags(tags((2, 1), 8, 3, 6), &more),
    ));
    assert_eq!(colors(&picture), [254, 0, 0, 128, 128, 128]);
}

#[test]
fn lab_becomes_colours() {
    // Red and white of sRGB, seen under D50.
    let signed = [138, 81, 70, 255, 0, 0];
    let unsigned = [138, 81 + 128, 70 + 128, 255, 128, 128];
    for (photometric, pixels) in [(8, signed), (9, unsigned)] {
        let picture = read(&tiff(false, &pixels, &tags((2, 1), 8, 3, photometric)));
        let found = colors(&picture);
        let expected = [254, 0, 0, 255, 255, 255];
        let pairs = found.iter().zip(expected);
        assert!(
            pairs.map(|(a, b)| a.abs_diff(b)).max() <= Some(8),
            "{found:?}"
        );
    }
}

#[test]
fn channels_that_are_no_alpha_are_said() {
    let pixels = [10, 20, 30, 77, 40, 50, 60, 88];
    let more = [(338, 3, vec![0])];
    let picture = read(&tiff(
        false,
        &pixels,
        &with_tags(tags((2, 1), 8, 4, 2), &more),
    ));
    assert_eq!(colors(&picture), [10, 20, 30, 40, 50, 60]);
    assert_eq!(picture.kept.alpha, None);
    assert_eq!(picture.dropped, ["channels beyond colours and alpha"]);
    // Differences from the pixel before, over all channels.
    let pixels = [10, 20, 30, 77, 30, 30, 30, 11];
    let more = [(338, 3, vec![0]), (259, 3, vec![1]), (317, 3, vec![2])];
    let picture = read(&tiff(
        false,
        &pixels,
        &with_tags(tags((2, 1), 8, 4, 2), &more),
    ));
    assert_eq!(colors(&picture), [10, 20, 30, 40, 50, 60]);
}

#[test]
fn wide_files_keep_their_metadata() {
    let text: Vec<u32> = b"a long description\0".iter().map(|&x| x.into()).collect();
    let more = [(270, 2, text), (296, 3, vec![2])];
    let picture = read(&tiff(
        true,
        &[1, 2, 3],
        &with_tags(tags((1, 1), 8, 3, 2), &more),
    ));
    let exif = picture.kept.exif.unwrap();
    assert!(exif.windows(18).any(|part| part == b"a long description"));
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let pixels = [0; 12];
    let of = |more: &[Tag]| {
        let file = tiff(false, &pixels, &with_tags(tags((2, 2), 8, 3, 2), more));
        decode(&file, LIMIT).unwrap_err().to_string()
    };
    assert!(of(&[(259, 3, vec![50000])]).contains("Zstandard"));
    assert!(of(&[(50706, 1, vec![1, 4, 0, 0])]).contains("raw file"));
    assert!(of(&[(262, 3, vec![32803])]).contains("raw file"));
    assert!(of(&[(254, 4, vec![1]), (330, 4, vec![8])]).contains("raw file"));
    assert!(of(&[(262, 3, vec![10])]).contains("colours of kind 10"));
    assert!(of(&[(258, 3, vec![12; 3])]).contains("12 bits"));
    let many = DecodeOptions {
        max_pixels: 3,
        ..LIMIT
    };
    let file = tiff(false, &pixels, &tags((2, 2), 8, 3, 2));
    assert!(
        decode(&file, many)
            .unwrap_err()
            .to_string()
            .contains("4 pixels")
    );
}
