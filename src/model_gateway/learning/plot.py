"""The curve as a picture: quality over the share of calls to the strong model, and the reliability of the score."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

from model_gateway.learning.evaluation import Report, Said
from model_gateway.learning.measures import gap_recovered

mpl.use("Agg")
from matplotlib import pyplot as plt


def draw(said: Said, report: Report, title: str, path: Path) -> None:
    """Writes a PNG. Raises OSError."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    share = np.linspace(0.0, 1.0, len(said.weak) + 1)
    gap = report.strong_mean - report.weak_mean
    for name, score, style in (("router", said.gain, "-"), ("length only", said.length, "--")):
        curve = gap_recovered(score, said.weak, said.strong)
        apgr = report.apgr if style == "-" else report.apgr_length
        left.plot(share, report.weak_mean + gap * curve, style, label=f"{name}, APGR {apgr:.3f}")
    left.plot([0, 1], [report.weak_mean, report.strong_mean], ":", label="random, APGR 0.500")
    left.set(xlabel="share of calls to the strong model", ylabel="mean quality", title=title)
    left.legend(loc="lower right")
    probability = [said_ for said_, _, _ in report.reliability]
    found = [share_ for _, share_, _ in report.reliability]
    sizes = [20.0 + 400.0 * count / report.rows for _, _, count in report.reliability]
    right.plot([0, 1], [0, 1], ":")
    right.scatter(probability, found, s=sizes)
    right.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="score: probability that the weak model fails",
        ylabel="share at which it failed",
        title=f"ECE {report.ece:.3f}, Brier {report.brier:.3f}",
    )
    figure.savefig(path, dpi=110)  # pyright: ignore[reportUnknownMemberType]
    plt.close(figure)
