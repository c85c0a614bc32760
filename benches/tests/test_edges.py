"""The script that compares the edges of results with their middle."""

import numpy as np
from PIL import Image
from test_compare import PROGRAM, ROOT, needs_program

import edges


def waves(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    values = 120 + 60 * np.sin(y / 19) + 40 * np.cos(x / 23)
    return np.repeat(values[..., None], 3, axis=2).astype(np.uint8)


def test_sizes_need_padding_and_a_crop_keeps_the_edge(tmp_path):
    for i in range(2):
        Image.fromarray(waves(300 + i, 400)).save(tmp_path / f"{i}.png")
    found = edges.cases(tmp_path, 5)
    assert len({picture.shape for picture in found}) == 5
    for picture in found:
        crop = edges.aligned(picture, 64)
        assert all(side % 64 for side in picture.shape[:2])
        assert not any(side % 64 for side in crop.shape[:2])
        assert np.array_equal(crop, picture[-crop.shape[0] :, -crop.shape[1] :])


def test_a_dark_line_is_seen():
    truth = waves(96, 128)
    found = truth + 2.0
    assert edges.ratio(found, truth) == 1
    assert edges.line(found, truth) == 2
    found[-1] -= 50
    assert edges.ratio(found, truth) > 1.1
    assert edges.line(found, truth) == 48


@needs_program
def test_all_stages_are_compared(tmp_path, capsys):
    Image.fromarray(waves(300, 300)).save(tmp_path / "waves.png")
    code = edges.main([str(tmp_path), "--bundle", str(ROOT / "onnx/demo"), "--diffbir",
                       str(PROGRAM), "--sizes", "1", "--steps", "2"])  # fmt: skip
    assert code == 0
    rows = capsys.readouterr().out.strip().splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == list(edges.STAGES)
