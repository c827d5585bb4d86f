"""What a key may be routed to: its patterns and tiers, aliases that stay inside, and nothing beside it by any name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.config.schema import CanaryConfig, RoutingConfig
from model_gateway.domain.caller import Scope
from model_gateway.domain.errors import GatewayError, InvalidRequest, ModelUnavailable, PermissionDenied, UnknownModel
from model_gateway.domain.route import Tier
from model_gateway.routing.names import AUTOS
from model_gateway.routing.router import Router
from model_gateway.routing.view import View
from targets import HYBRID, LOCAL, REMOTE, ask, estimate, states, target

TARGETS = (
    target("tiny", LOCAL, model="tiny-model"),
    target("wide", LOCAL, REMOTE, model="wide-model"),
    target("wide", model="wide-extra"),
    target("mid", HYBRID, model="shared"),
    target("big", REMOTE, model="shared"),
    target("big", model="vectors", embeds=True),
)
ALIASES: dict[str, str | dict[str, float]] = {
    "smart": {"big/shared": 3, "tiny-model": 1},
    "best": "auto:best",
    "cheap": "tiny-model",
}


def router(statuses: Mapping[str, str] | None = None, **options: Any) -> Router:
    online = {each.provider: "online" for each in TARGETS} | dict(statuses or {})
    return Router(TARGETS, RoutingConfig(aliases=ALIASES, **options), online, estimate)


def scope(*models: str, tiers: tuple[Tier, ...] = ()) -> Scope:
    return Scope(models, frozenset(tiers))


def names(view: View) -> set[str]:
    return {f"{c.target.provider}/{c.target.model}" for c in view.candidates}


@pytest.mark.parametrize(
    ("narrowed", "left"),
    [
        (scope("tiny-model"), {"tiny/tiny-model"}),
        (scope("shared"), {"mid/shared", "big/shared"}),
        (scope("big/*"), {"big/shared", "big/vectors"}),
        (scope("w?de-*", "mid/shared"), {"wide/wide-model", "wide/wide-extra", "mid/shared"}),
        (scope("smart"), {"big/shared", "tiny/tiny-model"}),
        (scope("Tiny-model"), set[str]()),
        (scope(tiers=(LOCAL,)), {"tiny/tiny-model", "wide/wide-model", "wide/wide-extra"}),
        (scope("*", tiers=(HYBRID,)), {"mid/shared"}),
        (scope("shared", tiers=(REMOTE,)), {"big/shared"}),
    ],
)
def test_patterns_and_tiers(narrowed: Scope, left: set[str]) -> None:
    view = router().view(narrowed)
    assert names(view) == left
    assert view.fingerprint


def test_a_key_without_either_sees_everything() -> None:
    routes = router()
    assert routes.view(Scope(doors=frozenset({"grpc"}))) is routes.everything
    assert routes.everything.fingerprint == b""


def test_views_that_allow_the_same_are_alike_and_others_are_not() -> None:
    routes = router()
    same = routes.view(scope("mid/shared", "big/shared")).fingerprint
    assert routes.view(scope("shared")).fingerprint == same
    assert routes.view(scope("shared", "tiny-model")).fingerprint != same
    assert routes.view(scope("shared", tiers=(HYBRID, REMOTE))).fingerprint != same


def test_an_alias_keeps_those_of_its_models_that_are_allowed() -> None:
    view = router().view(scope("tiny-model"))
    assert view.names == (*AUTOS, "smart", "best", "cheap")
    assert view.aliases["smart"].models == ["tiny-model"]
    assert router().view(scope("mid/*")).names == (*AUTOS, "best")
    led = router().view(scope("smart"))
    assert set(led.aliases["smart"].models) == {"big/shared", "tiny-model"}


def test_what_is_named_and_exists_outside_is_denied_and_what_is_nowhere_is_unknown() -> None:
    routes = router()
    view = routes.view(scope("tiny-model"))
    for model in ("tiny-model", "tiny/tiny-model", "smart", "best", *AUTOS, "nowhere"):
        routes.check(view, model, "")
    for model in ("shared", "mid/shared", "vectors"):
        with pytest.raises(PermissionDenied, match=f"may not use the model `{model}`") as denied:
            routes.check(view, model, "")
        assert denied.value.param == "model"
    with pytest.raises(PermissionDenied, match="may not use the provider `big`; it may use tiny") as denied:
        routes.check(view, "auto", "big")
    assert denied.value.param == "preferredProvider"
    with pytest.raises(UnknownModel) as unknown:
        routes.route(ask(model="share", view=view), states(TARGETS))
    assert "shared" not in unknown.value.message, "a hint tells no more than the list of models"
    with pytest.raises(InvalidRequest) as wrong:
        routes.route(ask(preferred_provider="nobody", view=view), states(TARGETS))
    assert "known: tiny" in wrong.value.message and "big" not in wrong.value.message


def test_a_canary_outside_is_not_tried() -> None:
    routes = router(canary=CanaryConfig(model="big/shared", share=1.0))
    assert routes.route(ask(dice=0.0), states(TARGETS)).targets[0].provider == "big"
    narrow = routes.view(scope("mid/shared"))
    assert [t.provider for t in routes.route(ask(dice=0.0, view=narrow), states(TARGETS)).targets] == ["mid"]


def test_nobody_left_is_said_without_naming_others() -> None:
    routes = router({"tiny": "offline"})
    with pytest.raises(ModelUnavailable, match="no provider that this key may use is online"):
        routes.route(ask(view=routes.view(scope("tiny-model"))), states(TARGETS))


PATTERNS = ["tiny-model", "shared", "wide/*", "big/*", "*-model", "smart", "cheap", "mid/shared", "vectors"]


@given(
    st.lists(st.sampled_from(PATTERNS), max_size=3),
    st.sets(st.sampled_from([LOCAL, HYBRID, REMOTE]), max_size=2),
    st.sampled_from([*AUTOS, *ALIASES, "shared", "big/shared", "wide-model", "vectors"]),
    st.sampled_from([LOCAL, HYBRID, REMOTE]),
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from(["", "big", "tiny"]),
)
def test_no_question_ever_leads_outside(
    patterns: list[str], tiers: set[Tier], model: str, asked: Tier, dice: float, embeds: bool, preferred: str
) -> None:
    routes = router(canary=CanaryConfig(model="big/shared", share=0.5))
    view = routes.view(scope(*patterns, tiers=tuple(tiers)))
    question = ask(
        asked,
        model=model,
        dice=dice,
        embeds=embeds,
        preferred_provider=preferred,
        view=view if view.fingerprint else None,
    )
    try:
        found = routes.route(question, states(TARGETS))
    except GatewayError:
        return
    assert {f"{t.provider}/{t.model}" for t in found.targets} <= names(view)
