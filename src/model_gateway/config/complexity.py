"""The section `complexity`: what the score is made of, and which tier it asks for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from model_gateway.config.section import Ratio, Section


class ComplexityWeights(Section):
    """Weights of the five features; they are normalised to sum to 1."""

    length: float = Field(default=0.15, ge=0, description="How long the query is.")
    vocabulary_diversity: float = Field(default=0.1, ge=0, description="How varied its words are.")
    grammar_complexity: float = Field(default=0.15, ge=0, description="How nested its sentences are.")
    domain_knowledge: float = Field(default=0.3, ge=0, description="How much special knowledge it needs.")
    multi_part_question: float = Field(default=0.3, ge=0, description="How many things it asks at once.")


class ComplexityThresholds(Section):
    low: Ratio = Field(default=0.3, description="Below: local.")
    high: Ratio = Field(default=0.7, description="Below: hybrid; from here on: remote.")


class EmbeddingsConfig(Section):
    timeout: int = Field(
        default=100,
        ge=0,
        le=10_000,
        description="Milliseconds that a request waits for its embedding, where the routing model has an embedding "
        "part (`routing fit --embeddings`); then it is judged without. 0: always without.",
    )


class ComplexityConfig(Section):
    features: tuple[
        Literal["length", "vocabulary_diversity", "grammar_complexity", "domain_knowledge", "multi_part_question"], ...
    ] = Field(
        default=("length", "vocabulary_diversity", "grammar_complexity", "domain_knowledge", "multi_part_question"),
        description="Features that make up the score, 0–1.",
    )
    weights: ComplexityWeights = ComplexityWeights()
    thresholds: ComplexityThresholds = ComplexityThresholds()
    model: str = Field(
        default="shipped",
        description="`shipped`, the file of a routing model of your own (`model-gateway routing fit`), or `features`: "
        "the five features alone.",
    )
    weak_model: str = Field(
        default="",
        description="Whose failures the score tells, where the routing model knows several; `routing info` lists them.",
    )
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    safe_tier: Literal["local", "hybrid", "remote"] = Field(
        default="hybrid", description="Answers queries that are unlike anything the routing model has seen."
    )
