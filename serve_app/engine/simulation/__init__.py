"""`engine: simulated`: vLLM's HTTP face over a model of its timing, to test balancing, scaling, failure."""

from serve_app.engine.simulation.engine import SimulatedEngine

__all__ = ["SimulatedEngine"]
