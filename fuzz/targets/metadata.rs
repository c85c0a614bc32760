//! EXIF, XMP and profiles in sound pictures. The first byte chooses the container, the rest is what lies in it.

use super::pictures;

/// What metadata may take.
pub const MEMORY: usize = 64_000_000;

/// Number of containers.
const KINDS: u8 = 12;

const PIXEL_JXL: &[u8] = include_bytes!("../../tests/goldens/pictures/still.jxl");

/// Puts the metadata into a picture and reads it.
pub fn run(bytes: &[u8]) {
    if let Some((kind, data)) = bytes.split_first() {
        pictures::run(&wrapped(*kind, data));
    }
}

/// A small picture with `data` as its metadata.
pub fn wrapped(kind: u8, data: &[u8]) -> Vec<u8> {
    match kind % KINDS {
        0 => png(b"eXIf", data),
        1 => png(b"iCCP", &[b"x\0\0", &stored(data)[..]].concat()),
        2 => png(b"iTXt", &[b"XML:com.adobe.xmp\0\0\0\0\0", data].concat()),
        3 => jpeg(0xe1, b"Exif\0\0", data),
        4 => jpeg(0xe2, b"ICC_PROFILE\0\x01\x01", data),
        5 => jpeg(0xe1, b"http://ns.adobe.com/xap/1.0/\0", data),
        6 => webp(0x08, b"EXIF", data),
        7 => webp(0x20, b"ICCP", data),
        8 => webp(0x04, b"XMP ", data),
        9 => jxl(b"Exif", &[&[0; 4], data].concat()),
        10 => jxl(b"xml ", data),
        _ => jxl(b"brob", &[b"Exif", data].concat()),
    }
}

fn plain(format: image::ImageFormat) -> Vec<u8> {
    let picture =
        image::RgbImage::from_fn(4, 3, |x, y| image::Rgb([x as u8 * 60, y as u8 * 80, 9]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The checksum of PNG's chunks.
pub fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

fn png(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let plain = plain(image::ImageFormat::Png);
    let named = [&kind[..], data].concat();
    let length = (data.len() as u32).to_be_bytes();
    // Behind the signature and the header.
    let (head, tail) = plain.split_at(33);
    [head, &length, &named, &crc(&named).to_be_bytes(), tail].concat()
}

/// A zlib stream that packs nothing.
pub fn stored(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = data.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let (a, b) = data.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

fn jpeg(marker: u8, sign: &[u8], data: &[u8]) -> Vec<u8> {
    let plain = plain(image::ImageFormat::Jpeg);
    let data = &data[..data.len().min(65_000)];
    let length = ((sign.len() + data.len() + 2) as u16).to_be_bytes();
    let (start, rest) = plain.split_at(2);
    [start, &[0xff, marker], &length, sign, data, rest].concat()
}

fn webp(flag: u8, kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| {
        let length = (data.len() as u32).to_le_bytes();
        [kind, &length, data, &vec![0; data.len() % 2]].concat()
    };
    let pixels = &plain(image::ImageFormat::WebP)[12..];
    let extended = chunk(b"VP8X", &[flag, 0, 0, 0, 3, 0, 0, 2, 0, 0]);
    let meta = chunk(kind, data);
    let body = match kind {
        b"ICCP" => [&extended[..], &meta, pixels].concat(),
        _ => [&extended[..], pixels, &meta].concat(),
    };
    let length = (body.len() as u32 + 4).to_le_bytes();
    [b"RIFF", &length[..], b"WEBP", &body].concat()
}

fn jxl(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let boxed = |kind: &[u8], data: &[u8]| {
        let length = (data.len() as u32 + 8).to_be_bytes();
        [&length, kind, data].concat()
    };
    [
        boxed(b"JXL ", b"\r\n\x87\n"),
        boxed(b"ftyp", b"jxl \0\0\0\0jxl "),
        boxed(kind, data),
        boxed(b"jxlc", PIXEL_JXL),
    ]
    .concat()
}
