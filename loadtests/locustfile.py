"""Load on an OpenAI-compatible service: `locust -f loadtests/locustfile.py`; README.md beside it says more."""

from locust import events

from loadtests.load import harness
from loadtests.load.shapes import Shape
from loadtests.load.users import Arrivals, Closed

harness.install(events)

__all__ = ["Arrivals", "Closed", "Shape"]
