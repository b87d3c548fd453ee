"""Load on an OpenAI-compatible service: `locust -f loadtests/locustfile.py`; README.md beside it says more."""

from locust import events

from loadtests.loadgen import harness
from loadtests.loadgen.load_shape import LoadShape
from loadtests.loadgen.users import ClosedLoopUser, OpenLoopUser

harness.install(events)

__all__ = ["OpenLoopUser", "ClosedLoopUser", "LoadShape"]
