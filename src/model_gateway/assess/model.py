"""A routing model: what was learned about which queries a weak model fails at. Pure; from bytes and back.

The file is a magic line, the header's length, a JSON header, zlib-compressed weights, and the SHA-256 of all of that:
nothing in it can run, and a file that was cut or changed is refused. Three linear heads read the same features:
*fails* (the weak model fails here), *gain* (how much more often the strong one is right), *known* (the query resembles
those with labels). `fails` and `gain` are calibrated on queries that they were not fitted to.

A model may have an embedding part besides: what a text's embedding adds to `fails` and `gain`, where there is one.
Without it the heads say what they would say alone. Such a file has a format of its own, for what cannot read it.
"""

from __future__ import annotations

import hashlib
import math
import sys
import zlib
from array import array
from collections.abc import Sequence
from functools import partial
from itertools import repeat
from math import exp, floor
from operator import add, itemgetter, mul
from typing import Final

import msgspec

from model_gateway.assess.facts import TERMS
from model_gateway.assess.reading import (
    BITS,
    FORMAT,
    ROLES,
    SCALES,
    STRUCTURE,
    Counted,
    Hashed,
    Words,
    counted,
    first_and_last,
    gathered,
    sampled,
)
from model_gateway.assess.sample import Sample
from model_gateway.assess.structure import Structure

MAGIC = b"model-gateway routing model\n"
SIZE = 1 << BITS
FORMAT_EMBEDDING = 3
DIMENSIONS = 384
MOST_BYTES = 2_000
_DIRECTIONS = 2 * 2 * DIMENSIONS  # bytes: two of them, of 16-bit weights
_MOST = 1e6
_DIGEST = 32
_SPAN: Final = float(1 << 27)
_HALF: Final = _SPAN / 2.0
NOTABLE = frozenset((*ROLES, *TERMS))
_LEAST = -700.0  # the logit from which on a probability is not 0


class ModelInvalid(ValueError):
    """The bytes are no routing model that this version can use; the text says why and what to do."""


class Head(msgspec.Struct, frozen=True):
    """`step`: what one unit of a stored 16-bit weight stands for. `structure`: weights of the standardised measures."""

    step: float
    structure: tuple[float, ...]
    base: float


class Calibration(msgspec.Struct, frozen=True):
    """probability = 1 / (1 + exp(−(slope · head + offset))), where `offset` may be a weak model's own."""

    slope: float
    offset: float
    models: dict[str, float] = {}


class Curve(msgspec.Struct, frozen=True):
    """On held-out queries, for shares 0, 1/n … 1 of them sent to the strong model, the highest gains first."""

    gains: tuple[float, ...]
    quality: tuple[float, ...]

    def gain_above(self, quality: float) -> float:
        """The gain from which on queries go to the strong model so that `quality` (0–1) of its gain is kept."""
        for gain, reached in zip(self.gains, self.quality, strict=True):
            if reached >= quality:
                return gain
        return -math.inf

    def gain_for_share(self, share: float) -> float:
        """The gain from which on queries go to the strong model so that about `share` (0–1) of all do."""
        return self.gains[round(share * (len(self.gains) - 1))]


class Added(msgspec.Struct, frozen=True):
    """with the embedding = keep · without it + step · (stored weights · embedding) + offset."""

    keep: float
    step: float
    offset: float


class EmbeddingPart(msgspec.Struct, frozen=True):
    """`engine`: whose embeddings it was fitted to. `size`: so many of a text's first bytes in UTF-8 are embedded.

    `fails` adds to the calibrated logit, `gain` to the calibrated gain. `curve`: by the gain with the embedding.
    """

    engine: str
    size: int
    fails: Added
    gain: Added
    curve: Curve


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    format: int
    bits: int
    name: str
    made: str
    rows: int
    sources: tuple[str, ...]
    longest: int
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    fails: Head
    gain: Head
    known: Head
    calibration: Calibration
    gain_slope: float
    gain_offset: float
    curve: Curve
    embedding: EmbeddingPart | None = None


class Reading(msgspec.Struct, frozen=True):
    """What the model says of one query. `seen`: the share of its pieces that occurred in what it was fitted with.

    `pieces`: how many there are, of the whole query or of a sample where it is long. `measures`: as they are counted
    (reading.py). `notable`: the narrow pieces that are in NOTABLE.
    """

    probability: float
    gain: float
    known: float
    seen: float
    pieces: int
    wording: float
    measures: Counted
    words: tuple[tuple[str, float], ...] = ()
    notable: Sequence[str] = ()


class RoutingModel:
    """`digest`: the first 12 characters of the file's SHA-256; empty until it has been read from one.

    `directions`: of the embedding part, the weights for `fails` and those for `gain`, DIMENSIONS each.
    """

    def __init__(
        self,
        header: Header,
        fails: array[int],
        gain: array[int],
        known: array[int],
        seen: bytes,
        digest: str = "",
        directions: tuple[array[int], array[int]] | None = None,
    ) -> None:
        self.header = header
        self.digest = digest
        self.directions = directions
        self._seen = seen
        self._gain = gain
        # A sum over a thousand weights of 16 bits stays below 2**26, and a double holds integers of 53 bits exactly: so
        # both are summed at once, with one look at the table for each feature and half the misses of the caches.
        self._both = array("d", map(add, map(mul, fails, repeat(_SPAN)), known))
        self._words = Words(seen, NOTABLE)
        self._offset, self._slope = header.calibration.offset, header.calibration.slope
        self._fails_step, self._known_step = header.fails.step, header.known.step
        weights = [head.structure for head in (header.fails, header.known, header.gain)]
        self._structure = Structure(header.means, header.deviations, *weights)

    def for_weak_model(self, name: str) -> RoutingModel:
        """The same with the level at which that weak model fails; an unknown name changes nothing.

        Without one it is the level of the ablest that is known: weak models have become better since.
        """
        offset = self.header.calibration.models.get(name)
        if offset is not None:
            self._offset = offset
        return self

    def with_part(self, header: Header, directions: tuple[array[int], array[int]]) -> RoutingModel:
        """The same with an embedding part, which `header` has."""
        fails, known = self._heads()
        return RoutingModel(header, fails, self._gain, known, self._seen, "", directions)

    def _heads(self) -> tuple[array[int], array[int]]:
        """The weights that are kept together, apart."""
        pairs = list(map(_apart, self._both))
        return array("h", [int(fails) for fails, _ in pairs]), array("h", [int(known) for _, known in pairs])

    @property
    def weak_models(self) -> Sequence[str]:
        return tuple(self.header.calibration.models)

    def read(self, text: str, sample: Sample | None = None, *, explain: bool = False, gain: bool = True) -> Reading:
        """`sample`: of `sampled(text)`, where it has been read already. `gain` False leaves the gain out, as 0."""
        sample = sample or Sample(sampled(text))
        hashed = Hashed(sample, self._words)
        features, header = hashed.features, self.header
        scaled = SCALES[len(features)]
        measures = counted(sample, len(text), hashed.notable)
        fails, known = self._structure.says(measures)
        pick = itemgetter(*features) if len(features) > 1 else partial(gathered, features)
        both = sum(pick(self._both))
        # The sums of two heads, which are whole numbers, apart.
        upper = (both + _HALF) // _SPAN
        wording = upper * scaled * self._fails_step
        fails = self._slope * (wording + fails + header.fails.base) + self._offset
        known += (both - upper * _SPAN) * scaled * self._known_step + header.known.base
        gained = 0.0
        if gain:
            gained = sum(pick(self._gain)) * scaled * header.gain.step + header.gain.base
            gained = header.gain_slope * (gained + self._structure.says_of_gain(measures)) + header.gain_offset
        return Reading(
            1.0 / (1.0 + exp(-fails)) if fails > _LEAST else 0.0,
            gained,
            1.0 / (1.0 + exp(-known)) if known > _LEAST else 0.0,
            hashed.seen,
            len(sample),
            wording * self._slope,
            measures,
            self._words_of(sample, hashed, scaled * self._slope) if explain else (),
            hashed.notable,
        )

    def weighed(self, measures: Counted) -> tuple[float, ...]:
        """What each measure adds to the probability's logit."""
        slope = self._slope
        return tuple([slope * weight for weight in self._structure.weighed(measures)])

    def base(self) -> float:
        """The probability before anything of the query is known."""
        return _sigmoid(self.header.calibration.slope * self.header.fails.base + self._offset)

    def _words_of(self, sample: Sample, hashed: Hashed, scaled: float) -> tuple[tuple[str, float], ...]:
        """The words that weigh most."""
        places = dict(zip(first_and_last(sample.pieces()), hashed.places(), strict=True))
        words = [*filter(str.isalnum, places)]
        both = gathered([*map(places.__getitem__, words)], self._both)
        weights = [floor(each / _SPAN + 0.5) for each in both]
        sizes = [*map(abs, weights)]
        step = self._fails_step * scaled
        strongest = sorted(range(len(words)), key=sizes.__getitem__, reverse=True)[:6]
        return tuple([(words[at], weights[at] * step) for at in strongest])

    def dump(self) -> bytes:
        """The file's bytes: the same model, the same bytes."""
        head = msgspec.json.encode(self.header)
        fails, known = self._heads()
        weights = [_weights(values.tobytes()) for values in (fails, self._gain, known)]
        added = [_weights(values.tobytes()) for values in self.directions or ()]
        body = b"".join(values.tobytes() for values in weights) + self._seen
        body = zlib.compress(body + b"".join(values.tobytes() for values in added), 9)
        whole = MAGIC + len(head).to_bytes(4, "little") + head + body
        return whole + hashlib.sha256(whole).digest()


def parse(data: bytes) -> RoutingModel:
    """Raises ModelInvalid for what is no whole routing model of this format."""
    if not data.startswith(MAGIC):
        raise ModelInvalid("this is no routing model; make one with `model-gateway routing fit`")
    whole, digest = data[:-_DIGEST], data[-_DIGEST:]
    if len(data) < len(MAGIC) + 4 + _DIGEST or hashlib.sha256(whole).digest() != digest:
        raise ModelInvalid("the routing model is damaged: its checksum does not match; copy or fit it again")
    begin = len(MAGIC) + 4
    end = begin + int.from_bytes(data[len(MAGIC) : begin], "little")
    try:
        version = msgspec.json.decode(whole[begin:end], type=dict[str, object]).get("format")
        if version not in (FORMAT, FORMAT_EMBEDDING):
            raise ModelInvalid(
                f"the routing model has format {version}, this version reads {FORMAT} and {FORMAT_EMBEDDING}; "
                "fit it again with this version"
            )
        header = msgspec.json.decode(whole[begin:end], type=Header)
        # One byte more than there may be: a small file that unpacks to gigabytes is refused before it has.
        body = zlib.decompressobj().decompress(whole[end:], 7 * SIZE + _DIRECTIONS + 1)
    except (msgspec.DecodeError, zlib.error) as error:
        raise ModelInvalid(f"the routing model cannot be read: {error}") from None
    embeds = version == FORMAT_EMBEDDING
    expected = 7 * SIZE + (_DIRECTIONS if embeds else 0)
    if header.bits != BITS or len(body) != expected or len(header.means) != len(STRUCTURE):
        raise ModelInvalid("the routing model has other features than this version; fit it again with this version")
    if embeds != (header.embedding is not None) or (header.embedding is not None and not _sane(header.embedding)):
        raise ModelInvalid("the routing model's embedding part makes no sense; fit it again with this version")
    fails, gain, known = (_weights(body[2 * SIZE * head : 2 * SIZE * (head + 1)]) for head in range(3))
    half, rest = _DIRECTIONS // 2, body[7 * SIZE :]
    directions = (_weights(rest[:half]), _weights(rest[half:])) if embeds else None
    return RoutingModel(header, fails, gain, known, body[6 * SIZE : 7 * SIZE], digest.hex()[:12], directions)


def _sane(part: EmbeddingPart) -> bool:
    """Is every figure of it one that a fit could have found? Whoever made the file, no score may become NaN."""
    figures = (*msgspec.structs.astuple(part.fails), *msgspec.structs.astuple(part.gain), *part.curve.gains)
    points = len(part.curve.gains)
    return (
        0 < part.size <= MOST_BYTES
        and all(abs(figure) <= _MOST for figure in figures)
        and 1 < points == len(part.curve.quality)
    )


def _weights(data: bytes) -> array[int]:
    values = array("h", data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _apart(both: float) -> tuple[float, float]:
    """The sums of two heads, which are whole numbers, from the sum of both."""
    upper = (both + _HALF) // _SPAN
    return upper, both - upper * _SPAN


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + exp(-x)) if x > _LEAST else 0.0
