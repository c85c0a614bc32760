"""Pictures in and out."""

import ctypes
import gc
import io
import subprocess

import numpy as np
import pytest
from conftest import FAST, ROOT

import diffbir
from diffbir import _library, _pixels


def test_an_array_comes_back_in_its_size(restored, colours):
    assert restored.shape == colours.shape
    assert restored.dtype == np.uint8
    assert restored.std() > 1


FORMS = {
    "uint16": lambda x: x.astype(np.uint16) * 257,
    "float32": lambda x: x.astype(np.float32) / 255,
    "crop": lambda x: np.pad(x, ((2, 3), (4, 5), (0, 0)))[2:-3, 4:-5],
    "flipped": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "planes": lambda x: x.transpose(2, 0, 1).copy().transpose(1, 2, 0),
    "every other": lambda x: np.repeat(np.repeat(x, 2, axis=1), 2, axis=0)[::2, ::2],
    "big-endian": lambda x: (x.astype(np.uint16) * 257).astype(">u2"),
    "repeated": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("form", ["crop", "flipped"])
def test_every_stride_is_the_same_picture(engine, colours, restored, form):
    result = engine.restore(FORMS[form](colours), **FAST)[0].array()
    np.testing.assert_array_equal(result, restored)


@pytest.mark.parametrize("form", ["uint16", "float32", "big-endian"])
def test_more_than_8_bits_are_restored_to_16(engine, colours, restored, form):
    image = engine.restore(FORMS[form](colours), **FAST)[0]
    deep = image.array(np.uint16)
    assert (deep % 257 != 0).any(), "8 bits widened"
    np.testing.assert_allclose(image.array(np.float32), deep / 65535, atol=1e-7)
    # The same picture: 8 bits are cut off as in the reference, 16 are the nearest.
    assert np.abs(deep / 257 - restored).max() <= 1
    np.testing.assert_array_equal(image.array(), (deep.astype(int) + 128) // 257)


def test_what_lies_between_8_bits_counts(engine, colours):
    wide = colours.astype(np.uint16) * 256
    results = [engine.restore(wide + more, **FAST)[0].array(np.uint16) for more in (0, 100)]
    assert (results[0] != results[1]).any()


@pytest.mark.parametrize("form", FORMS)
def test_every_array_is_described_as_it_is(colours, form):
    given = FORMS[form](colours)
    pixels, alive = _pixels.describe(given)
    memory = np.frombuffer((ctypes.c_uint8 * pixels.size).from_address(pixels.data), np.uint8)
    dtype = {1: np.uint8, 2: np.uint16, 3: np.float32}[pixels.value_type]
    row = 32 * 3 * np.dtype(dtype).itemsize
    rows = [memory[y * pixels.row_stride :][:row].view(dtype) for y in range(24)]
    assert pixels.size == 23 * pixels.row_stride + row
    np.testing.assert_array_equal(np.stack(rows).reshape(24, 32, 3), given)
    del alive


def test_rows_with_gaps_are_not_copied(colours):
    view = np.pad(colours, ((2, 3), (4, 5), (0, 0)))[2:-3, 4:-5]
    pixels, alive = _pixels.describe(view)
    assert alive is view
    assert (pixels.row_stride, pixels.size) == ((32 + 9) * 3, 23 * (32 + 9) * 3 + 32 * 3)


def test_one_row_and_one_column_have_no_stride_to_speak_of(colours):
    for view in (colours[::-1][:1], colours[:, ::-1][:, :1], colours[:1, :1]):
        pixels, _alive = _pixels.describe(view)
        assert (pixels.height, pixels.width) == view.shape[:2]
        assert pixels.row_stride >= view.shape[1] * 3


def test_grey_is_a_picture_of_three_equal_channels(engine, colours):
    grey = colours[..., 0]
    from_grey = engine.restore(grey, **FAST)[0].array()
    from_three = engine.restore(np.dstack([grey] * 3), **FAST)[0].array()
    np.testing.assert_array_equal(from_grey, from_three)


def test_alpha_is_kept(engine, colours, alpha, restored):
    image = engine.restore(np.dstack([colours, alpha]), **FAST)[0]
    assert image.has_alpha
    rgba = image.array(channels="rgba")
    np.testing.assert_array_equal(rgba[..., 3], alpha)
    np.testing.assert_array_equal(rgba[..., :3], restored)
    np.testing.assert_array_equal(image.array(channels="bgra"), rgba[..., [2, 1, 0, 3]])
    assert image.to_pil().mode == "RGBA"


def test_results_in_every_form(engine, colours, restored):
    image = engine.restore(colours, **FAST)[0]
    assert (image.width, image.height, image.has_alpha) == (32, 24, False)
    np.testing.assert_array_equal(image.array(channels="bgr"), restored[..., ::-1])
    np.testing.assert_array_equal(image.array(np.uint16), restored.astype(np.uint16) * 257)
    np.testing.assert_allclose(image.array("float32"), restored / 255, atol=1e-7)
    rgba = image.array(channels="rgba")
    assert rgba.flags.writeable and (rgba[..., 3] == 255).all()
    grey = image.array(channels="grey")
    luma = restored @ np.array([0.299, 0.587, 0.114])
    assert grey.shape == (24, 32) and np.abs(grey - luma).max() <= 1
    np.testing.assert_array_equal(np.asarray(image.to_pil()), restored)
    with pytest.raises(TypeError, match="float64, expected uint8"):
        image.array(np.float64)
    with pytest.raises(diffbir.InvalidArgumentError, match="'hsv', expected one of rgb"):
        image.array(channels="hsv")


def test_the_view_is_read_only_and_not_a_copy(engine, colours):
    image = engine.restore(colours, **FAST)[0]
    first, second = image.array(), image.array()
    assert first.ctypes.data == second.ctypes.data
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0, 0] = 1


def test_arrays_outlive_everything(bundle, colours, restored):
    before = _library.load().diffbir_live_handles()
    engine = diffbir.Engine(bundle)
    request = engine.submit(colours, **FAST)
    result = request.result()
    array = result[0].array()
    engine.close()
    del engine, request, result
    gc.collect()
    assert _library.load().diffbir_live_handles() == before + 1
    np.testing.assert_array_equal(array, restored)
    del array
    gc.collect()
    assert _library.load().diffbir_live_handles() == before


def test_path_bytes_and_pillow_are_the_same_picture(engine, picture):
    pillow = pytest.importorskip("PIL.Image")
    data = picture.read_bytes()
    expected = engine.restore(picture, **FAST)[0].array()
    with pillow.open(picture) as opened:
        for given in (data, memoryview(bytearray(data)), opened):
            np.testing.assert_array_equal(engine.restore(given, **FAST)[0].array(), expected)


def test_pillow_modes(colours, alpha):
    pillow = pytest.importorskip("PIL.Image")
    of = _pixels.of_pil
    rgb = pillow.fromarray(colours)
    assert of(rgb.convert("L")).shape == (24, 32)
    assert of(rgb.convert("1")).shape == (24, 32, 3)
    assert of(rgb.convert("P")).shape == (24, 32, 3)
    assert of(rgb.convert("CMYK")).shape == (24, 32, 3)
    rgba = rgb.copy()
    rgba.putalpha(pillow.fromarray(alpha))
    np.testing.assert_array_equal(of(rgba)[..., 3], alpha)
    np.testing.assert_array_equal(of(rgba.convert("LA"))[..., 3], alpha)
    deep = pillow.fromarray(np.full((4, 5), 40000, np.uint16))
    assert of(deep).dtype == np.uint16
    keyed = rgb.convert("L")
    keyed.info["transparency"] = int(colours[0, 0].mean())
    assert of(keyed).shape == (24, 32, 4)
    with pytest.raises(TypeError, match="mode F"):
        of(rgb.convert("F"))


def test_pillow_images_are_turned_upright(colours):
    pillow = pytest.importorskip("PIL.Image")
    turned = pillow.fromarray(colours)
    turned.getexif()[0x0112] = 6
    np.testing.assert_array_equal(_pixels.of_pil(turned), np.rot90(colours, -1))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (np.zeros((4, 5, 2), np.uint8), diffbir.InvalidArgumentError, r"\(4, 5, 2\), expected"),
        (np.zeros(4, np.uint8), ValueError, r"\(4,\), expected"),
        (np.zeros((0, 5, 3), np.uint8), diffbir.InvalidArgumentError, "no pixels"),
        (np.zeros((4, 5, 3)), TypeError, "float64, expected uint8, uint16 or float32"),
        (np.zeros((4, 5), bool), TypeError, "bool, expected"),
        ([[1, 2], [3, 4]], TypeError, "a list, expected a path"),
        (None, TypeError, "a NoneType, expected"),
        (b"", diffbir.InvalidArgumentError, "size is 0"),
        (b"no picture", diffbir.InputError, "not a picture of a known kind"),
        ("missing.png", diffbir.InputError, "missing.png: cannot be read"),
        ("a\0b.png", diffbir.InvalidArgumentError, "NUL"),
    ],
)
def test_what_is_no_picture_is_refused(engine, given, kind, message):
    with pytest.raises(kind, match=message):
        engine.restore(given, **FAST)


def test_files_in_every_format(engine, colours, restored, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    image = engine.restore(colours, **FAST)[0]
    for format, kind in [("png", "PNG"), ("webp", "WEBP"), ("tiff", "TIFF"), ("bmp", "BMP")]:
        with pillow.open(io.BytesIO(image.encode(format))) as opened:
            assert opened.format == kind
            np.testing.assert_array_equal(np.asarray(opened.convert("RGB")), restored)
    assert len(image.encode("jpeg", quality=30)) < len(image.encode("jpeg", quality=95))
    assert b"tEXt" in image.encode() or b"iTXt" in image.encode()
    assert len(image.encode(metadata=False)) < len(image.encode())
    for quality in (0, 101, -1):
        with pytest.raises(diffbir.OptionError, match=f"quality is {quality}, expected 1 to 100"):
            image.encode("jpeg", quality=quality)
    with pytest.raises(diffbir.OptionError, match="format is gif, expected one of png"):
        image.encode("gif")

    path = tmp_path / "new" / "a.bmp"
    image.save(path)
    assert path.read_bytes()[:2] == b"BM"
    with pytest.raises(diffbir.OptionError, match="exists and may not be replaced"):
        image.save(path)
    image.save(str(path), overwrite=True, format="png")
    with pillow.open(path) as opened:
        np.testing.assert_array_equal(np.asarray(opened), restored)
    with pytest.raises(diffbir.InputError) as refused:
        image.save(path / "below.png")
    assert refused.value.code == diffbir.Code.INPUT


def test_the_program_makes_the_same_picture(engine, bundle, picture, tmp_path):
    program = ROOT / "target" / "release" / "diffbir"
    pillow = pytest.importorskip("PIL.Image")
    if not program.is_file():
        pytest.skip("the program is not built")
    output = tmp_path / "program.png"
    flags = ["--steps", "2", "--upscale", "1.5", "--seed", "11", "--task", "denoise"]
    # Another build of ONNX Runtime may round differently.
    runtime = ["--set", f"runtime.library={engine.runtime['library']}"]
    command = [program, "restore", picture, "-o", output, "--bundle", bundle, *flags, *runtime]
    subprocess.run([*command, "--strength", "0.8"], check=True, capture_output=True)
    result = engine.restore(picture, steps=2, upscale=1.5, seed=11, task="denoise", strength=0.8)
    with pillow.open(output) as opened:
        np.testing.assert_array_equal(np.asarray(opened), result[0].array())
    assert result[0].array().shape == (144, 144, 3)
