"""The places of a cascade, as the router sees them: a tier and no other, a model, and what a key may use of them."""

from __future__ import annotations

import pytest

from model_gateway.config.cascades import CascadeConfig
from model_gateway.config.schema import RoutingConfig
from model_gateway.domain.caller import Scope
from model_gateway.domain.errors import CostLimitExceeded, ModelUnavailable, Overloaded, PermissionDenied, UnknownModel
from model_gateway.routing.router import Router
from targets import THREE, ask, estimate, states

ONLINE = {"small": "online", "middle": "online", "large": "online"}
CONFIG = RoutingConfig(cascades={"smart": CascadeConfig(first="local", then="large-model")})


def router(**statuses: str) -> Router:
    return Router(THREE, CONFIG, {**ONLINE, **statuses}, estimate)


def test_a_place_is_a_tier_or_a_model() -> None:
    found = router()
    assert [t.provider for t in found.route_at("hybrid", ask(), states(THREE)).targets] == ["middle"]
    assert [t.provider for t in found.route_at("large-model", ask(), states(THREE)).targets] == ["large"]
    assert [t.provider for t in found.route_at("large/large-model", ask(), states(THREE)).targets] == ["large"]


def test_a_tier_that_nobody_serves_is_not_replaced_by_another() -> None:
    with pytest.raises(ModelUnavailable, match="local"):
        router(small="offline").route_at("local", ask(), states(THREE))
    with pytest.raises(CostLimitExceeded):
        router().route_at("remote", ask(budget_nano=10), states(THREE))


def test_the_first_is_never_waited_for() -> None:
    live = states(THREE)
    live[0].load.full, live[0].load.room = True, 5
    with pytest.raises(Overloaded):
        router().route_at("local", ask(), live, waits=False)
    assert router().route_at("local", ask(), live).targets[0].provider == "small"


def test_what_cannot_be_cascaded_goes_to_the_last_place() -> None:
    assert router().route(ask(model="smart"), states(THREE)).targets[0].provider == "large"


def test_a_key_for_the_name_reaches_all_of_its_places() -> None:
    view = router().view(Scope(models=("smart",)))
    assert {c.target.provider for c in view.candidates} == {"small", "large"} and "smart" in view.names
    assert router().route_at("local", ask(view=view), states(THREE)).targets[0].provider == "small"


def test_a_key_for_one_of_its_models_has_that_one_alone() -> None:
    found = router()
    view = found.view(Scope(models=("small-model",)))
    assert view.knows("smart")
    with pytest.raises(UnknownModel):
        found.route_at("large-model", ask(view=view), states(THREE))
    other = found.view(Scope(models=("middle-model",)))
    assert not other.knows("smart")
    with pytest.raises(PermissionDenied):
        found.check(other, "smart", "")
