"""The model card's table."""

import sys
from pathlib import Path

import numpy as np
from helpers import synthetic

EXPORT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(EXPORT))  # the training scripts are no part of the installed package

from train import evaluate, metrics  # noqa: E402


class Levels:
    """Stands for the measuring network: the difference of mean levels."""

    def __init__(self, folder: Path):
        assert folder == Path("data")

    def distance(self, found, truth) -> float:
        return abs(float(found.mean()) - float(truth.mean()))


def test_a_row_has_the_means_of_every_measure(monkeypatch):
    monkeypatch.setattr(evaluate, "Inception", Levels)
    cases = []
    for number, truth in enumerate(synthetic(2, 192)):
        darker = truth - np.minimum(truth, 2 + 2 * number)
        cases.append(evaluate.Case(str(number), truth, truth, {"same": truth, "darker": darker}))
    head, _, same, darker = evaluate.table(cases, ["same", "darker"], Path("data")).splitlines()
    columns = [cell.strip() for cell in head.split("|")[2:-1]]
    assert columns == [*metrics.METRICS, "feature distance"]
    same, darker = ([cell.strip() for cell in row.split("|")[1:-1]] for row in (same, darker))
    assert same[0] == "same" and same[3:] == ["0.0000", "1.0000", "1.000", "0.0000"]
    wanted = np.mean([metrics.psnr(case.results["darker"], case.truth) for case in cases])
    distances = [Levels(Path("data")).distance(c.results["darker"], c.truth) for c in cases]
    assert darker[1] == f"{wanted:.2f}" and darker[6] == f"{np.mean(distances):.4f}"


def test_figures_replace_what_stands_between_the_marks(tmp_path):
    card = tmp_path / "card.md"
    card.write_text(f"head\n{evaluate.MARKS[0]}\nold\n{evaluate.MARKS[1]}\nrest\n")
    evaluate.insert(card, "new\n")
    assert card.read_text() == f"head\n{evaluate.MARKS[0]}\nnew\n{evaluate.MARKS[1]}\nrest\n"
