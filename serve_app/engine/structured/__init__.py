"""Structured outputs: what constrains an answer is judged in a process that can be ended, before the engine sees it.

vLLM compiles schemas, regular expressions and grammars with xgrammar inside the engine, without a bound of time or
memory, and checks them on the server's event loop. Here `bounds` refuses what is too large at a glance, `trials` has
the rest compiled by `worker` within limits, once for each, and `install` puts that before vLLM's own handling. `guard`
bounds what a grammar costs while the engine follows it.
"""
