"""A short run of every target of `make fuzz`, and that one which fails says how to have it again."""

import random

import fuzz
import pytest


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_odd_bytes_have_a_defined_end(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    fuzz.run(target, seed=0, executions=300)
    assert capsys.readouterr().out.startswith(target)


def test_an_execution_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(chance: random.Random) -> None:
        assert chance.random() != random.Random(17).random()

    monkeypatch.setitem(fuzz.TARGETS, "session", (lambda: fails, 1))
    with pytest.raises(AssertionError):
        fuzz.run("session", seed=10, executions=100)
    assert capsys.readouterr().err == "fuzz: session fails: --target session --seed 17 --executions 1\n"
