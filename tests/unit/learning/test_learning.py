"""Fitting and measuring on made-up queries whose difficulty is known, through the commands that people use."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from model_gateway.assessing import routing_model
from model_gateway.cli.app import app
from model_gateway.learning import measures

EASY = ["colour", "animal", "fruit", "city", "river", "song"]
HARD = ["tensor", "eigenvalue", "cohomology", "lattice", "functor", "manifold"]


def write(path: Path, rows: int, seed: int) -> Path:
    """Hard words make the weak model fail four times of five, and easy ones once of five; the strong one seldom."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["prompt", "weak", "strong", "domain", "language", "weak_model", "strong_model"])
        for number in range(rows):
            hard = chance.random() < 0.5
            word = chance.choice(HARD if hard else EASY)
            filler = " ".join(chance.choice(["of", "the", "in", "a", "with", "for"]) for _ in range(number % 9))
            weak = int(chance.random() < (0.2 if hard else 0.8))
            strong = int(chance.random() < 0.9)
            out.writerow([f"Which {word} {filler} is number {number % 7}?", weak, strong, "made", "en", "weak-1", "s"])
    return path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["routing", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("learning")
    train, test = write(folder / "train.csv", 600, 1), write(folder / "test.csv", 400, 2)
    run("fit", "--data", str(train), "--out", str(folder / "own.model"))
    return folder / "own.model", test


def test_a_fitted_model_finds_what_is_hard_and_is_calibrated(fitted: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = fitted
    plot = tmp_path / "curve.png"
    output = run("eval", "--data", str(data), "--model", str(model), "--json", "--plot", str(plot))
    report = json.loads(output)
    assert report["apgr"] > 0.65
    assert report["apgr"] > report["apgr_length"] + 0.1
    assert report["cpt50"] < 0.35
    assert report["ece"] < 0.08
    assert report["brier"] < 0.2
    assert 0.0 < report["se"] < 0.1
    assert report["abstained"] == 0
    assert 0.0 < report["saved_at_95"] < 1.0
    assert plot.read_bytes().startswith(b"\x89PNG")
    text = run("eval", "--data", str(data), "--model", str(model))
    for word in ("router", "length only", "random", "ECE", "95 %"):
        assert word in text


def test_fitting_again_gives_the_same_file(tmp_path: Path) -> None:
    data = write(tmp_path / "d.csv", 300, 3)
    for name in ("a", "b"):
        run("fit", "--data", str(data), "--labels", "200", "--seed", "4", "--out", str(tmp_path / name), "--name", "n")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    header = routing_model(str(tmp_path / "a")).header
    assert (header.rows, header.sources) == (200, ("d.csv",))
    assert "weak-1" in run("info", "--model", str(tmp_path / "a"))


def test_rows_that_the_model_has_seen_are_told(fitted: tuple[Path, Path]) -> None:
    model, data = fitted
    result = CliRunner().invoke(
        app, ["routing", "eval", "--data", str(data.parent / "train.csv"), "--model", str(model)]
    )
    assert "warning: the model was fitted to a file named train.csv" in result.output


def test_several_files_are_fitted_for_what_is_none_of_them(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{seed}.csv", 200, seed) for seed in (5, 6)]
    run("fit", *(part for file in files for part in ("--data", str(file))), "--out", str(tmp_path / "m"))
    model = routing_model(str(tmp_path / "m"))
    long = "Which colour is number 2 of the many that are named in this much longer question, and why is it so?"
    assert model.read(long).gain > model.read("Which colour is number 2?").gain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question,weak,strong\n", "no column `prompt`"),
        ("prompt,weak,strong\nwhy?,2,1\n", ":2: `weak` is '2'; it must be a number from 0 to 1"),
        ("prompt,weak,strong\n ,1,1\n", ":2: `prompt` is empty"),
        ("prompt,weak,strong\nwhy?,1,1\n", "1 rows are too few"),
    ],
)
def test_a_bad_file_is_told_by_file_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    data = tmp_path / "bad.csv"
    data.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["routing", "eval", "--data", str(data)])
    assert result.exit_code == 1
    assert said in result.output
    assert str(data) in result.output


def test_a_bad_model_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["routing", "info", "--model", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "No such file" in result.output


def test_the_measures_are_those_of_their_definitions() -> None:
    weak, strong = np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 1.0])
    best = np.array([4.0, 3.0, 2.0, 1.0])
    assert measures.gap_recovered(best, weak, strong) == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0])
    assert measures.apgr(best, weak, strong) == pytest.approx(0.75)
    assert measures.apgr(-best, weak, strong) == pytest.approx(0.25)
    assert measures.apgr(np.zeros(4), weak, strong) == pytest.approx(0.5)
    assert measures.cpt(measures.gap_recovered(best, weak, strong), 0.8) == 0.5
    said, failed = np.array([0.25, 0.25, 0.85, 0.85]), np.array([0.0, 1.0, 1.0, 1.0])
    assert measures.calibration_error(said, failed) == pytest.approx(0.5 * 0.25 + 0.5 * 0.15)
    assert measures.brier(said, failed) == pytest.approx((0.0625 + 0.5625 + 0.0225 + 0.0225) / 4)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 1)), min_size=4, max_size=40))
def test_ties_are_worth_nothing(rows: list[tuple[int, int, int]]) -> None:
    """The order in which rows with equal scores stand does not matter."""
    score, weak, strong = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    one = measures.gap_recovered(score, weak, strong)
    two = measures.gap_recovered(score[::-1], weak[::-1], strong[::-1])
    assert one == pytest.approx(two, nan_ok=True)
