"""What a name stands for: a model, one of its adapters, or nothing that the key may know of."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.adapters.adapter import Adapter
from serve_app.config.keys import KeyConfig
from serve_app.config.schema import ModelConfig
from serve_app.http.errors import ApiError
from serve_app.replica.protocol import ADAPTER_HEADER
from serve_app.routing.body import RequestBody
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.router import Router

SCOPE = {"method": "POST", "path": "/v1/completions", "headers": [(b"content-type", b"application/json")]}


def served(id: str, *adapters: str, **entry: Any) -> Served:
    listed = {"list": [{"id": one, "source": f"/adapters/{one}", "sampling": {"top_k": 5}} for one in adapters]}
    config = {"id": id, "engine": "simulated", **entry, **({"adapters": listed} if adapters else {})}
    return Served(ModelConfig.model_validate(config), ReplicaPool(id, QueueLimits(1, 0.01, 0.01)))


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue([served("base", "support-de", "support-fr", aliases=["b"]), served("other")])


def key(*models: str) -> KeyConfig:
    return KeyConfig(name="k", key="two", models=models or None)


def test_an_adapter_is_found_beside_its_model(catalogue: Catalogue) -> None:
    found = catalogue.target("support-de")
    assert found.served is catalogue.models[0] and found.adapter is not None
    assert (found.adapter.id, found.adapter.source) == ("support-de", "/adapters/support-de")
    assert catalogue.target("b").adapter is None
    assert catalogue.served("support-fr") is catalogue.models[0]


@pytest.mark.parametrize(
    ("models", "opened"),
    [
        (("base",), {"base", "b", "support-de", "support-fr"}),
        (("b",), {"base", "b", "support-de", "support-fr"}),
        (("support-de",), {"support-de"}),
        (("other",), {"other"}),
        ((), {"base", "b", "support-de", "support-fr", "other"}),
    ],
)
def test_a_key_opens_an_adapter_by_its_own_name_or_by_its_models(
    catalogue: Catalogue, models: tuple[str, ...], opened: set[str]
) -> None:
    for name in ("base", "b", "support-de", "support-fr", "other"):
        if name in opened:
            catalogue.target(name, key(*models))
        else:
            with pytest.raises(ApiError) as refused:
                catalogue.target(name, key(*models))
            assert refused.value.status == 404
            assert not [hidden for hidden in {"support-de", "other"} - opened if repr(hidden) in told(refused.value)]


def told(error: ApiError) -> str:
    """What there is, according to the message."""
    return error.message.partition("Served here:")[2]


def test_the_nearest_name_may_be_an_adapters(catalogue: Catalogue) -> None:
    with pytest.raises(ApiError, match="Did you mean 'support-de'"):
        catalogue.target("suport-de")


def test_adapters_come_and_go_and_take_no_ones_name(catalogue: Catalogue) -> None:
    base, other = catalogue.models
    catalogue.set_adapters(base, [Adapter("new", "/new"), Adapter("other", "/taken")])
    catalogue.set_adapters(other, [Adapter("new", "/second")])
    (new,) = catalogue.adapters()
    assert new.served is base and new.adapter == Adapter("new", "/new")
    assert catalogue.target("other").adapter is None
    with pytest.raises(ApiError):
        catalogue.target("support-de")


def test_an_adapter_in_a_directory_of_two_models_is_for_the_one_it_fits(catalogue: Catalogue) -> None:
    base, other = catalogue.models
    catalogue.set_adapters(base, [Adapter("one", "/one", wrong="of another model")])
    assert catalogue.target("one").served is base
    catalogue.set_adapters(other, [Adapter("one", "/one")])
    assert catalogue.target("one").served is other and len(catalogue.adapters()) == 1


def test_a_replica_is_told_of_the_adapter_and_a_client_cannot(catalogue: Catalogue) -> None:
    router = Router(catalogue)
    forged = {**SCOPE, "headers": [*SCOPE["headers"], (ADAPTER_HEADER, b'["x","/etc",[],""]')]}
    request = router.route(forged, RequestBody(b'{"model": "support-de", "prompt": "a"}'))
    (value,) = [value for name, value in request.scope["headers"] if name == ADAPTER_HEADER]
    assert Adapter.read(value) == catalogue.target("support-de").adapter
    assert request.adapter == "support-de" and Adapter.read(value).sampling == (("top_k", 5),)
    plain = router.route(forged, RequestBody(b'{"model": "base", "prompt": "a"}'))
    assert plain.adapter is None and ADAPTER_HEADER not in dict(plain.scope["headers"])


def test_a_broken_adapter_costs_only_itself_and_says_why(catalogue: Catalogue) -> None:
    catalogue.set_adapters(catalogue.models[0], [Adapter("good", "/good"), Adapter("bad", "/bad", wrong="no weights")])
    router = Router(catalogue)
    router.route(SCOPE, RequestBody(b'{"model": "good", "prompt": "a"}'))
    with pytest.raises(ApiError, match="'bad' cannot be used: no weights") as refused:
        router.route(SCOPE, RequestBody(b'{"model": "bad", "prompt": "a"}'))
    assert (refused.value.status, refused.value.param) == (400, "model")
