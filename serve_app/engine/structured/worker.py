"""Compiles grammars on trial: a process of its own, which forks a child for each so that any of them can be ended.

Run as a script by `trials`, with the limits as arguments. On stdin the serialized tokenizer comes first, then one trial
a line, as JSON: `{"kind": ..., "spec": ...}`. For each trial two lines come back: the child's process id, and its
verdict, `{"refused": null}` or `{"refused": "why"}`. The child is ended by the kernel when its time is up.

It imports xgrammar without torch and transformers, which xgrammar uses for type annotations and for what is not done
here: 60 MiB and half a second in place of 270 MiB and several seconds.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import sys
import time
from typing import Any
from unittest.mock import MagicMock

import numpy

NICENESS = 5
WALK_TOKENS = 256
WALK_MOST_S = 1.0
"""CPU time for so many tokens of an answer: the engine's other answers wait while it asks what may come next."""

_WHERE = re.compile(r"^\[[\d:]+\] \S+?:\d+: (Check failed: .*? is false: )?")


def main() -> None:
    seconds, mebibytes = float(sys.argv[1]), int(sys.argv[2])
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    xgrammar = import_xgrammar()
    info = xgrammar.TokenizerInfo.deserialize_json(sys.stdin.buffer.readline().decode())
    for line in sys.stdin.buffer:
        pid = os.fork()
        if not pid:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            most = _data_bytes() + mebibytes * 1024 * 1024
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
            _say(json.dumps(os.getpid()))
            _say(json.dumps({"refused": try_one(xgrammar, info, **json.loads(line))}))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            _say(json.dumps({"refused": _ended(status, seconds, mebibytes)}))


def import_xgrammar() -> Any:
    sys.modules["torch"] = None  # type: ignore[assignment]
    import tvm_ffi  # noqa: F401

    sys.modules |= {name: MagicMock(name=name) for name in ("torch", "transformers")}
    import xgrammar

    return xgrammar


def try_one(xgrammar: Any, info: Any, kind: str, spec: str) -> str | None:
    """Why it cannot be used; None if it can."""
    try:
        return _walks(xgrammar, info, _compile(xgrammar, info, kind, spec))
    except MemoryError:
        return "it needs too much memory"
    except Exception as error:
        return _WHERE.sub("", str(error)).strip() or type(error).__name__


def _compile(xgrammar: Any, info: Any, kind: str, spec: str) -> Any:
    """As vLLM's backend compiles it, with white space off."""
    compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
    if kind == "json":
        return compiler.compile_json_schema(spec, any_whitespace=False, separators=(",", ":"))
    if kind == "regex":
        return compiler.compile_regex(spec)
    if kind == "lark":
        return compiler.compile_lark(spec)
    if kind == "ebnf":
        return compiler.compile_grammar(spec)
    tag = json.loads(spec)
    if "structures" not in tag:
        return compiler.compile_structural_tag(spec)
    items = [
        xgrammar.StructuralTagItem(begin=one["begin"], schema=json.dumps(one["schema"]), end=one["end"])
        for one in tag["structures"]
    ]
    return compiler.compile_structural_tag(items, tag["triggers"])


def _walks(xgrammar: Any, info: Any, grammar: Any) -> str | None:
    """Follow the grammar as an engine would, at length and then by other ways: it may lead nowhere, or be slow."""
    began = time.process_time()
    for way, tokens in enumerate((WALK_TOKENS, *(WALK_TOKENS // 16,) * 8)):
        matcher, chance = xgrammar.GrammarMatcher(grammar), random.Random(way)
        for _ in range(tokens):
            onward = _allowed(matcher, info)
            if onward is None:
                return "there is no text it would accept"
            if not len(onward) or not matcher.accept_token(int(chance.choice(onward))):
                break
            if time.process_time() - began > WALK_MOST_S:
                return "it is too ambiguous: finding what may come next takes too long"
    return None


def _allowed(matcher: Any, info: Any) -> Any:
    """The tokens that may come next, without those that end the answer; None if not even those may."""
    mask = numpy.full((1, (info.vocab_size + 31) // 32), -1, dtype=numpy.int32)
    matcher.fill_next_token_bitmask(mask, 0)
    allowed = numpy.unpackbits(mask.view(numpy.uint8), bitorder="little")[: info.vocab_size]
    if not allowed.any():
        return None
    allowed[info.stop_token_ids] = 0
    return numpy.flatnonzero(allowed)


def _ended(status: int, seconds: float, mebibytes: int) -> str:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        return f"it takes more than {seconds:g} s to compile: make it smaller"
    return f"it takes more than {mebibytes} MiB to compile, or is nested too deeply: make it smaller"


def _data_bytes() -> int:
    """What the process has of what RLIMIT_DATA counts."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmData"))
    return int(line.split()[1]) * 1024


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
