"""hostile_files.py FOLDER JXL: pictures that are small on disk and large in work.

JXL is any JPEG XL picture: its codestream goes into a container. Standard library alone.
"""

import struct
import sys
import zlib
from pathlib import Path

folder, jxl = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def png(width: int, height: int, bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG; `rows` are compressed, `extra` chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + pixels


def plain(rgb: tuple[int, int, int], side: int = 16) -> bytes:
    """A PNG of one colour."""
    return png(side, side, 8, 2, zlib.compress((b"\0" + bytes(rgb) * side) * side))


def deflated_zeros(head: bytes, size: int) -> bytes:
    """`head` and zeros up to `size` bytes, compressed."""
    pack = zlib.compressobj(9)
    parts, block = [pack.compress(head)], bytes(1 << 22)
    for at in range(len(head), size, len(block)):
        parts.append(pack.compress(block[: size - at]))
    return b"".join(parts) + pack.flush()


def profile_bomb(size: int) -> bytes:
    """A PNG whose colour profile unpacks to `size` bytes."""
    head = bytearray(128)
    head[:4] = struct.pack(">I", size)
    head[12:24] = b"mntrRGB XYZ "
    head[36:40] = b"acsp"
    profile = png_chunk(b"iCCP", b"p\0\0" + deflated_zeros(bytes(head), size))
    return png(8, 8, 8, 2, zlib.compress(bytes(25 * 8)), profile)


class Bits:
    """Bits in Brotli's order, lowest first."""

    def __init__(self) -> None:
        self.value, self.count = 0, 0

    def put(self, value: int, count: int) -> None:
        """Append `count` bits."""
        self.value |= value << self.count
        self.count += count

    def data(self) -> bytes:
        """The bytes, the last one filled with zeros."""
        return self.value.to_bytes((self.count + 7) // 8, "little")


def brotli_zeros(blocks: int) -> bytes:
    """A Brotli stream of `blocks` times 16 MiB of zeros (RFC 7932), each a literal and one copy."""
    bits = Bits()
    bits.put(0b0, 1)  # WBITS: a window of 16 bits
    length = 1 << 24
    for _ in range(blocks):
        bits.put(0, 1)  # ISLAST
        bits.put(2, 2)  # MNIBBLES: 6
        bits.put(length - 1, 24)
        bits.put(0, 1)  # ISUNCOMPRESSED
        bits.put(0, 3)  # one block type each
        bits.put(0, 6)  # NPOSTFIX, NDIRECT
        bits.put(0, 2)  # context mode
        bits.put(0, 2)  # one literal tree, one distance tree
        for symbol, width in ((0, 8), (399, 10), (16, 6)):
            bits.put(0b0001, 4)  # a simple code of one symbol
            bits.put(symbol, width)
        bits.put(length - 1 - 2118, 24)  # command 399: one literal, a copy of 2118 and more
        bits.put(0, 1)  # distance code 16: 1
    bits.put(0b11, 2)  # ISLAST, ISLASTEMPTY
    return bits.data()


def box(kind: bytes, data: bytes) -> bytes:
    """A box of a JPEG XL container."""
    return struct.pack(">I", len(data) + 8) + kind + data


def codestream(data: bytes) -> bytes:
    """The bare codestream of a JPEG XL picture."""
    if data[:2] == b"\xff\x0a":
        return data
    at, found = 0, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        size = size or len(data) - at
        body = data[at + 8 : at + size]
        found += body if kind == b"jxlc" else body[4:] if kind == b"jxlp" else b""
        at += size
    return found


def exif_bomb(blocks: int) -> bytes:
    """A JPEG XL picture whose Exif unpacks to `blocks` times 16 MiB."""
    parts = box(b"JXL ", b"\r\n\x87\n"), box(b"ftyp", b"jxl \0\0\0\0jxl ")
    return (
        b"".join(parts)
        + box(b"brob", b"Exif" + brotli_zeros(blocks))
        + box(b"jxlc", codestream(jxl))
    )


def segment(marker: int, data: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def scans(count: int) -> bytes:
    """A progressive JPEG of 64x64 pixels whose last scan stands there `count` times."""
    table = segment(0xDB, b"\0" + b"\1" * 64)
    frame = segment(0xC2, struct.pack(">BHHB", 8, 64, 64, 1) + b"\1\x11\0")
    # Codes: of DC, 0 for a difference of nothing; of AC, 0 for 64 blocks of nothing (and as many bits).
    codes = segment(0xC4, b"\0\1" + bytes(15) + b"\0") + segment(
        0xC4, b"\x10\1" + bytes(15) + b"\x60"
    )
    dc = segment(0xDA, b"\1\1\0\0\0\0") + bytes(8)
    # End of band for 64 blocks: the code and six bits of nothing, filled with ones.
    ac = segment(0xDA, b"\1\1\0\1\1\0") + b"\x01"
    return b"\xff\xd8" + table + frame + codes + dc + ac * count + b"\xff\xd9"


def webp_bomb() -> bytes:
    """A WebP of one pixel whose metadata claims 4 GiB."""
    pixel = bytes.fromhex("2f000000000788fe0700")
    extended = struct.pack("<4sIB9x", b"VP8X", 10, 0x08)
    image = struct.pack("<4sI", b"VP8L", len(pixel)) + pixel
    claimed = struct.pack("<4sI", b"EXIF", 0xFFFFFFFE) + bytes(700)
    body = b"WEBP" + extended + image + claimed
    return struct.pack("<4sI", b"RIFF", len(body)) + body


strip = png(10_000_000, 1, 1, 0, deflated_zeros(b"", 1_250_001))
files = {
    "a.png": plain((200, 0, 0)),
    "a_0.png": plain((0, 0, 200)),
    "strip.png": strip,
    "profile.png": profile_bomb(1 << 30),
    "exif.jxl": exif_bomb(64),
    "scans.jpg": scans(8000),
    "claim.webp": webp_bomb(),
}
for k in range(1, 13):
    files[f"f_{k}.png"] = plain((k, 9, 9))
for name, data in files.items():
    (folder / name).write_bytes(data)
