//! Mutations: of bytes, of the chunks of picture files, and of lines and words.

use crate::targets::metadata::crc;

/// What inputs look like.
#[derive(Clone, Copy)]
pub enum Shape {
    /// Anything.
    Bytes,
    /// Files of pictures: chunks, boxes or segments with lengths.
    Container,
    /// Lines, with words that matter.
    Text(&'static [&'static str]),
}

/// The longest input.
const LONGEST: usize = 1 << 16;

/// Signs of picture files, and of what lies in them.
const SIGNS: &[&[u8]] = &[
    b"\x89PNG\r\n\x1a\n",
    b"IHDR",
    b"IDAT",
    b"PLTE",
    b"tRNS",
    b"iCCP",
    b"eXIf",
    b"iTXt",
    b"zTXt",
    b"acTL",
    b"fcTL",
    b"IEND",
    b"\xff\xd8\xff",
    b"\xff\xc0",
    b"\xff\xc2",
    b"\xff\xc4",
    b"\xff\xda",
    b"\xff\xdb",
    b"\xff\xdd",
    b"\xff\xee",
    b"\xff\xd9",
    b"RIFF",
    b"WEBP",
    b"VP8 ",
    b"VP8L",
    b"VP8X",
    b"ALPH",
    b"ANIM",
    b"ANMF",
    b"ICCP",
    b"EXIF",
    b"XMP ",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"jxlc",
    b"jxlp",
    b"brob",
    b"Exif",
    b"xml ",
    b"ftyp",
    b"\xff\x0a",
    b"ICC_PROFILE\0",
    b"Adobe\0",
    b"acsp",
    b"mluc",
    b"mft2",
    b"mAB ",
    b"curv",
    b"para",
    b"RGB ",
    b"CMYK",
    b"GRAY",
    b"XYZ ",
    b"A2B0",
    b"rTRC",
];

/// Numbers at which bounds are forgotten.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    7,
    8,
    255,
    256,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff0,
    0xffff_ffff,
];
const DIGITS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "1e9",
    "1e300",
    "-1e300",
    ".nan",
    ".inf",
    "4294967295",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "4611686018427387904",
    "0.5",
    "1e-300",
    "~",
];

/// SplitMix64 (Steele et al., OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 for 0.
    fn below(&mut self, n: usize) -> usize {
        self.next().checked_rem(n as u64).unwrap_or(0) as usize
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// A range of `length`, mostly short.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length);
        let most = match self.below(8) {
            0 => length,
            _ => 32,
        };
        start..(start + 1 + self.below(most)).min(length)
    }
}

/// Makes one input after another.
pub struct Mutator<'a> {
    random: Random,
    seeds: &'a [Vec<u8>],
    shape: Shape,
}

impl<'a> Mutator<'a> {
    pub fn new(seed: u64, seeds: &'a [Vec<u8>], shape: Shape) -> Self {
        let random = Random(seed);
        Mutator {
            random,
            seeds,
            shape,
        }
    }

    pub fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.seeds[self.random.below(self.seeds.len())].clone();
        // 1 to 16, mostly few.
        for _ in 0..1 << self.random.below(5) {
            let is_plain = self.random.below(2) == 0;
            match self.shape {
                Shape::Container if !is_plain => self.chunks(&mut bytes),
                Shape::Text(words) if !is_plain => self.lines(&mut bytes, words),
                Shape::Text(_) if self.random.below(4) > 0 => self.digits(&mut bytes),
                _ => self.bytes(&mut bytes),
            }
            bytes.truncate(LONGEST);
        }
        // Sound checksums, so that what lies behind them is reached.
        if bytes.starts_with(b"\x89PNG") && self.random.below(8) > 0 {
            check(&mut bytes);
        }
        bytes
    }

    fn bytes(&mut self, bytes: &mut Vec<u8>) {
        let random = &mut self.random;
        let at = random.below(bytes.len());
        match random.below(12) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            2 | 3 => {
                let number = random.of(&NUMBERS);
                let size = random.of(&[1, 2, 4, 8]);
                let mut word = number.to_le_bytes()[..size].to_vec();
                if random.below(2) == 0 {
                    word.reverse();
                }
                overwrite(bytes, at, &word);
            }
            4 => drop(bytes.drain(random.range(bytes.len()))),
            5 | 6 => {
                let range = random.range(bytes.len());
                let copy = bytes[range].to_vec();
                bytes.splice(at..at, copy);
            }
            7 => {
                let word = random.of(SIGNS);
                overwrite(bytes, at, word);
            }
            8 => bytes.truncate(at),
            9 => {
                let random_bytes: Vec<u8> = (0..=random.below(16))
                    .map(|_| random.next() as u8)
                    .collect();
                bytes.splice(at..at, random_bytes);
            }
            10 => {
                let other = &self.seeds[random.below(self.seeds.len())];
                let range = random.range(other.len());
                let (start, end) = (at, (at + range.len()).min(bytes.len()));
                bytes.splice(start..end, other[range].iter().copied());
            }
            _ => {
                let range = random.range(bytes.len());
                let many = bytes[range].repeat(1 << random.below(9));
                bytes.splice(at..at, many);
            }
        }
    }

    /// A chunk goes, comes again, comes from another file, changes its place, its length or its contents.
    fn chunks(&mut self, bytes: &mut Vec<u8>) {
        let mut parts = split(bytes);
        let random = &mut self.random;
        let at = random.below(parts.len());
        match random.below(8) {
            0 if parts.len() > 1 => drop(parts.remove(at)),
            1 => parts.insert(at, parts[at].clone()),
            2 => {
                let other = split(&self.seeds[random.below(self.seeds.len())]);
                let part = other[random.below(other.len())].clone();
                parts.insert(at, part);
            }
            3 => {
                let other = random.below(parts.len());
                parts.swap(at, other);
            }
            4 => {
                let many = random.of(&[2, 16, 300]);
                let copies = vec![parts[at].clone(); many];
                parts.splice(at..at, copies);
            }
            // Its length, or its sign.
            5 | 6 => {
                let number = random.of(&NUMBERS) as u32;
                let word = if random.below(2) == 0 {
                    number.to_be_bytes()
                } else {
                    number.to_le_bytes()
                };
                let place = random.of(&[0, 2, 4, 8]);
                overwrite(&mut parts[at], place, &word);
            }
            _ => {
                let mut part = std::mem::take(&mut parts[at]);
                self.bytes(&mut part);
                parts[at] = part;
            }
        }
        *bytes = parts.concat();
    }

    /// A line goes, comes again, comes from another text, changes its place or its depth, or a word is put in.
    fn lines(&mut self, bytes: &mut Vec<u8>, words: &[&str]) {
        let random = &mut self.random;
        let mut lines: Vec<Vec<u8>> = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        if lines.is_empty() {
            lines.push(Vec::new());
        }
        let at = random.below(lines.len());
        match random.below(8) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let other = &self.seeds[random.below(self.seeds.len())];
                let others: Vec<&[u8]> = other.split_inclusive(|byte| *byte == b'\n').collect();
                if let Some(line) = others.get(random.below(others.len())) {
                    lines.insert(at, line.to_vec());
                }
            }
            3 => {
                let other = random.below(lines.len());
                lines.swap(at, other);
            }
            4 => lines[at].splice(0..0, *b"  ").for_each(drop),
            5 if lines[at].starts_with(b"  ") => drop(lines[at].drain(..2)),
            6 => {
                // In place of a word.
                let line = &mut lines[at];
                let word = random.of(words).as_bytes();
                let start = random.below(line.len());
                let length = line[start..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric())
                    .count();
                line.splice(start..start + length, word.iter().copied());
            }
            _ => {
                let line = &mut lines[at];
                let word = random.of(words).as_bytes();
                let place = random.below(line.len());
                line.splice(place..place, word.iter().copied());
            }
        }
        *bytes = lines.concat();
    }

    /// A number becomes another.
    fn digits(&mut self, bytes: &mut Vec<u8>) {
        let random = &mut self.random;
        let from = random.below(bytes.len());
        let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let Some(start) = bytes[from..].iter().position(is_digit).map(|at| from + at) else {
            return;
        };
        let length = bytes[start..]
            .iter()
            .take_while(|byte| is_digit(byte))
            .count();
        let number = random.of(&DIGITS).bytes();
        bytes.splice(start..start + length, number);
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, word: &[u8]) {
    let end = (at + word.len()).min(bytes.len());
    bytes.splice(at.min(end)..end, word.iter().copied());
}

/// The parts of a picture file, at least one. What is not understood is one part.
fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|word| word.first_chunk::<4>())
            .copied()
    };
    let big = |at: usize| word(at).map(|word| u32::from_be_bytes(word) as usize);
    let little = |at: usize| word(at).map(|word| u32::from_le_bytes(word) as usize);
    let mut ends = Vec::new();
    let mut at;
    if bytes.starts_with(b"\x89PNG") {
        at = 8;
        while let Some(length) = big(at) {
            ends.push(at);
            at = at.saturating_add(length).saturating_add(12);
        }
    } else if bytes.starts_with(b"RIFF") {
        at = 12;
        while let Some(length) = little(at + 4) {
            ends.push(at);
            at = at
                .saturating_add(length.next_multiple_of(2))
                .saturating_add(8);
        }
    } else if bytes.starts_with(b"\xff\xd8") {
        at = 2;
        while let Some([0xff, _, high, low]) = word(at) {
            ends.push(at);
            at += 2 + usize::from(u16::from_be_bytes([high, low]));
        }
    } else if bytes.starts_with(b"\0\0\0\x0cJXL ") {
        at = 0;
        while let Some(length) = big(at).filter(|length| *length >= 8) {
            at = at.saturating_add(length);
            ends.push(at);
        }
    } else {
        // Entries of TIFF's folders have 12 bytes.
        ends = (8..bytes.len()).step_by(12).take(64).collect();
    }
    let mut parts = Vec::new();
    let mut start = 0;
    for end in ends
        .into_iter()
        .filter(|end| (1..bytes.len()).contains(end))
    {
        if end > start {
            parts.push(bytes[start..end].to_vec());
            start = end;
        }
    }
    parts.push(bytes[start..].to_vec());
    parts
}

/// Sets the checksums of a PNG's chunks.
fn check(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes
        .get(at..at + 4)
        .and_then(|head| head.first_chunk::<4>())
    {
        let end = at
            .saturating_add(8)
            .saturating_add(u32::from_be_bytes(*head) as usize);
        let Some(named) = bytes.get(at + 4..end) else {
            return;
        };
        let sum = crc(named).to_be_bytes();
        let Some(place) = bytes.get_mut(end..end + 4) else {
            return;
        };
        place.copy_from_slice(&sum);
        at = end + 4;
    }
}
