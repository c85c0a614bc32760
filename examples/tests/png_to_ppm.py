"""Decodes a PNG (8-bit RGB, not interlaced) into a binary PPM, with the standard library alone.

usage: png_to_ppm.py IN.png OUT.ppm
"""

import struct
import sys
import zlib


def chunks(data):
    at = 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size


def paeth(a, b, c):
    """The neighbour that is nearest to a + b - c: left, above or above left."""
    p = a + b - c
    return min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]


def unfiltered(raw, width, height):
    stride = 3 * width
    above = bytearray(stride)
    for y in range(height):
        kind, *row = raw[y * (stride + 1) : (y + 1) * (stride + 1)]
        for x in range(stride):
            a, c = (row[x - 3], above[x - 3]) if x >= 3 else (0, 0)
            b = above[x]
            row[x] = (row[x] + (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]) % 256
        above = row
        yield bytes(row)


def main(source, target):
    with open(source, "rb") as file:
        data = file.read()
    found = list(chunks(data))
    width, height, *form = struct.unpack(">IIBBBBB", found[0][1])
    if data[:8] != b"\x89PNG\r\n\x1a\n" or form != [8, 2, 0, 0, 0]:
        sys.exit(f"{source} is no 8-bit RGB PNG without interlace")
    raw = zlib.decompress(b"".join(body for kind, body in found if kind == b"IDAT"))
    with open(target, "wb") as file:
        file.write(b"P6\n%d %d\n255\n" % (width, height))
        file.writelines(unfiltered(raw, width, height))


if __name__ == "__main__":
    main(*sys.argv[1:])
