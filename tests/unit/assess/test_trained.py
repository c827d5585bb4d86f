from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract_queries import CONTRACT_QUERIES
from model_gateway.assess.features import FEATURES, FeatureAssessor
from model_gateway.assess.model import ModelInvalid, parse
from model_gateway.assess.trained import TrainedAssessor
from model_gateway.assessing import assessor_of, routing_model
from model_gateway.config.complexity import ComplexityConfig
from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import RoutingConfig
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.route import Tier

QUERIES = Path(__file__).parents[2] / "fixtures" / "complexity"
MODEL = routing_model()
ASSESSOR = TrainedAssessor(ComplexityConfig(), RoutingConfig(), MODEL)
EXAM = (
    "A 45-year-old man presents with sudden chest pain radiating to the back. Blood pressure differs between the "
    "arms. Which of the following is the most likely diagnosis?\nA. Myocardial infarction\nB. Aortic dissection\n"
    "C. Pulmonary embolism\nD. Pericarditis\nAnswer:"
)


@pytest.mark.parametrize(("chinese", "english", "tier"), CONTRACT_QUERIES)
def test_the_same_question_lands_in_the_same_tier_in_both_languages(chinese: str, english: str, tier: Tier) -> None:
    assert [ASSESSOR.assess(chinese).tier, ASSESSOR.assess(english).tier] == [tier, tier]


def test_queries_in_peoples_own_words_keep_their_tiers() -> None:
    """The model was fitted without these; a first version that mistook them for exam questions had 53 %."""
    right = asked = 0
    for language in ("en", "zh"):
        with (QUERIES / f"{language}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                asked += 1
                right += ASSESSOR.assess(row["query"], explain=False).tier == row["tier"]
    assert right / asked >= 0.8, f"{right} of {asked}"


def test_an_exam_question_is_judged_by_what_was_learned() -> None:
    reading = MODEL.read(EXAM)
    assert reading.known > 0.9
    assert abs(ASSESSOR.assess(EXAM).score - reading.probability) < 0.1


@pytest.mark.parametrize("query", [EXAM, "Explain how rain forms, and why", "写一首关于秋天的诗，并解释量子", "x", " "])
@pytest.mark.parametrize("assessor", [ASSESSOR, FeatureAssessor(ComplexityConfig())])
def test_factors_can_be_made_later_without_the_query(query: str, assessor: TrainedAssessor | FeatureAssessor) -> None:
    whole, scored = assessor.assess(query), assessor.assess(query, explain=False)
    assert whole.parts == scored.parts
    later = {each.name: each for each in assessor.factors_of(scored.parts, scored.abstained)}
    for factor in whole.factors if query.strip() else ():
        assert later[factor.name].contribution == pytest.approx(factor.contribution, abs=1e-6)
        assert later[factor.name].value == pytest.approx(factor.value, abs=1e-6)
    kept = " ".join(each.detail for each in later.values())
    assert not {"explain", "rain", "diagnosis", "解释", "量子"} & set(kept.split())


@pytest.mark.parametrize("query", [EXAM, "Explain how rain forms", "写一首关于秋天的诗", "x", "1 + 1 = ?"])
def test_factors_add_up_to_the_score(query: str) -> None:
    assessment = ASSESSOR.assess(query)
    names = [factor.name for factor in assessment.factors]
    assert set(FEATURES) <= set(names)
    assert {"wording", "structure", "similar_queries"} <= set(names)
    assert sum(factor.contribution for factor in assessment.factors) == pytest.approx(assessment.score, abs=1e-9)


def test_numbers_of_one_length_are_alike_and_half_a_character_is_read() -> None:
    asked = "A train leaves at {} and covers 120 miles. How far is it from the station?"
    assert MODEL.read(asked.format(315)) == MODEL.read(asked.format(978))
    assert MODEL.read(asked.format(315)) != MODEL.read(asked.format(3150))
    assert 0.0 <= ASSESSOR.assess(asked.format("\ud83d")).score <= 1.0


def test_a_subset_of_the_five_features_is_scored_by_them_alone() -> None:
    prior = FeatureAssessor(ComplexityConfig())
    assert ASSESSOR.assess(EXAM, ["length", "domain_knowledge"]) == prior.assess(EXAM, ["length", "domain_knowledge"])
    with pytest.raises(InvalidRequest, match="did you mean length"):
        ASSESSOR.assess(EXAM, ["lenght"])


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("สวัสดีครับ วันนี้อากาศเป็นอย่างไร", "unlike anything"),
        ("Привет, как дела? Расскажи мне про погоду на завтра", "script"),
        ("asdkjh qwezx zxmcnb qpwoe lkasjd zmxnc vbnqp", "unlike anything"),
        ("word " * 20_000, "characters"),
    ],
)
def test_what_is_unlike_anything_seen_goes_to_the_safe_tier_and_says_so(query: str, why: str) -> None:
    for safe in Tier:
        assessor = TrainedAssessor(ComplexityConfig(safe_tier=safe.value), RoutingConfig(), MODEL)
        assessment = assessor.assess(query)
        assert why in assessment.abstained
        assert assessment.tier == safe
        assert assessment.factors[0].name == "abstained"


def test_a_quality_or_a_cost_chooses_the_tier_from_the_curve() -> None:
    prompts = [f"{EXAM[:n]} {n}" for n in range(40, len(EXAM), 6)]

    def remote(**options: float) -> int:
        assessor = TrainedAssessor(ComplexityConfig(), RoutingConfig.model_validate(options), MODEL)
        return sum(assessor.assess(prompt, explain=False).tier == Tier.REMOTE for prompt in prompts)

    by_cost = [remote(target_cost=cost) for cost in (0.0, 0.3, 0.6, 1.0)]
    assert by_cost == sorted(by_cost)
    assert by_cost[-1] == len(prompts)
    by_quality = [remote(target_quality=quality) for quality in (0.2, 0.5, 0.9)]
    assert by_quality == sorted(by_quality)


def test_a_weak_model_that_fails_more_often_raises_the_score() -> None:
    levels = {name: routing_model(weak_model=name).read(EXAM).probability for name in MODEL.weak_models}
    assert len(levels) >= 2
    assert MODEL.read(EXAM).probability == pytest.approx(min(levels.values()))
    with pytest.raises(ConfigError, match="knows no weak model `gpt-9`; it knows: "):
        routing_model(weak_model="gpt-9")


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    data = MODEL.dump()
    assert parse(data).dump() == data
    assert parse(data).read(EXAM) == MODEL.read(EXAM)
    broken = bytearray(data)
    broken[len(data) // 2] ^= 1
    with pytest.raises(ModelInvalid, match="checksum"):
        parse(bytes(broken))
    with pytest.raises(ModelInvalid, match="checksum"):
        parse(data[:-10])
    with pytest.raises(ModelInvalid, match="no routing model"):
        parse(b"pickle")
    file = tmp_path / "x.model"
    file.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no routing model"):
        assessor_of(ComplexityConfig(model=str(file)), RoutingConfig())
    with pytest.raises(ConfigError, match="No such file"):
        assessor_of(ComplexityConfig(model=str(tmp_path / "none")), RoutingConfig())
    assert isinstance(assessor_of(ComplexityConfig(model="features"), RoutingConfig()), FeatureAssessor)


def test_the_shipped_file_is_small() -> None:
    assert len(MODEL.dump()) < 5_000_000


@given(st.text(max_size=400))
@settings(max_examples=150)
def test_any_text_has_a_score(text: str) -> None:
    assessment = ASSESSOR.assess(text)
    assert 0.0 <= assessment.score <= 1.0
    assert -1.5 <= assessment.gain <= 1.5
    assert assessment == ASSESSOR.assess(text)


@pytest.mark.parametrize(
    "query", [EXAM * 200, "请解释免疫系统如何区分自身与非自身。" * 6_000, "\n" * 100_000, "(" * 100_000]
)
def test_a_long_prompt_is_read_in_bounded_time(query: str) -> None:
    # Processor time, the best of several: the machine may be busy. The bound has room for a slow one.
    def once() -> float:
        begun = time.process_time()
        ASSESSOR.assess(query, explain=False)
        return time.process_time() - begun

    assert min(once() for _ in range(10)) < 0.01
