"""Load on an OpenAI-compatible service: `locust -f loadtests/locustfile.py`; README.md beside it says more."""

from locust import events

from loadtests.loadgen import harness
from loadtests.loadgen.shapes import Shape
from loadtests.loadgen.users import Arrivals, Closed

harness.install(events)

__all__ = ["Arrivals", "Closed", "Shape"]
