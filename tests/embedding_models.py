"""Routing models with an embedding part for tests: made-up queries, on which the real commands fit them."""

from __future__ import annotations

import csv
import random
from pathlib import Path

HARD = ["Prove the theorem on {}", "Derive the equation of {}", "Show that no {} is compact"]
EASY = ["Which colour has a {}", "Name the owner of this {}", "Where can I buy a {}"]
THINGS = "lattice manifold tensor kernel group field ring graph matrix functor".split()  # noqa: SIM905
GOODS = "chair melon river banana lamp cat bicycle pillow window spoon".split()  # noqa: SIM905
QUERY = "Prove the theorem on the manifold, number 7"


def labelled(path: Path, rows: int, seed: int) -> Path:
    """Of tasks of mathematics the weak model fails four of five, of household goods one of five; the strong one few."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["prompt", "weak", "strong"])
        for number in range(rows):
            hard = chance.random() < 0.5
            pattern, word = chance.choice(HARD if hard else EASY), chance.choice(THINGS if hard else GOODS)
            weak, strong = int(chance.random() < (0.2 if hard else 0.8)), int(chance.random() < 0.9)
            out.writerow([f"{pattern.format(word)}, number {number}", weak, strong])
    return path
