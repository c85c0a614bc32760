import pytest

from turns import Child, ChildError, Side, faster, middle, ratio


def test_a_child_answers_line_by_line(fake):
    with Child(fake) as child:
        assert child.ready["versions"] == {"fake": "1"}
        assert child.ask("0.5")["whole"] == 0.5
        assert child.ask("2")["stages"] == {"cleaner": 1.0}
        assert child.peak() > 2**20
    assert child.process.returncode == 0


def test_a_childs_error_and_its_end_are_told(fake):
    with Child(fake) as child, pytest.raises(ChildError, match="too little"):
        child.ask("-1")
    with Child(fake) as child, pytest.raises(ChildError, match="exit code 1, expected run"):
        child.ask("no number")
    with (
        pytest.raises(ChildError, match="exit code 3, expected ready"),
        Child([fake[0], "-c", "import sys; sys.exit(3)"]),
    ):
        pass


def test_sides_take_turns_and_their_ratios_have_a_median(fake):
    with Child(fake) as child:
        theirs, ours = Side("theirs", child), Side("ours", child)
        # The machine is three times as slow in the second turn: ratios do not show that.
        for slow in (1, 3, 1):
            for side, seconds in ((theirs, 4), (ours, 2)):
                side.line = str(slow * seconds)
                side.turn()
    assert ratio(theirs, ours, "whole") == 2
    assert ratio(theirs, ours, "step") == 2
    assert middle(ours, "whole") == 2
    assert middle(ours, "step") == 4  # a run's step is its median step
    assert middle(ours, "vae_decoder") is None
    assert ratio(theirs, ours, "vae_decoder") is None
    assert faster([theirs, ours]) is ours
