"""What a tuning has measured so far: a JSON file beside its output, written anew after each measurement.

{"version": 1,
 "asked":    {what the command line asked for: a resumed run must ask the same},
 "about":    {machine, versions, date, commit},
 "startup_s": [seconds from ordering a replica to its being ready],
 "together": {"replicas": as many as a jump of the traffic starts at once, "startup_s": until all are ready}, or null,
 "steps":    [one `step.Step` each: offered and achieved rate, concurrency, TTFT and TPOT percentiles, mean prompt and
              output tokens, outcomes, by replicas_per_gpu],
 "knees":    {"": `knee.Knee`, or by replicas_per_gpu},
 "skipped":  {what was not measured: why},
 "derived":  `derive.Derived`,
 "replays":  {name: {"title", "records": file beside this one, "samples": [`ReplicaCounts`], "outcome", "checks"}}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.planner.tuning.derive import Derived
from loadtests.planner.tuning.knee import Knee
from loadtests.planner.tuning.step import Step

VERSION = 1
ABOUT_A_REPLICA = ("entry", "model", "ask", "slo", "lengths", "scenario", "mps")
"""Keys of `asked` that decide what one replica carries."""


class CannotResume(Exception):
    """The file there is from something else; says what differs."""


@dataclass
class State:
    """What a tuning was asked and has measured, and the file where that is kept."""

    path: Path
    asked: dict[str, Any]
    about: dict[str, Any]
    startup_s: list[float] = field(default_factory=list)
    together: dict[str, float] | None = None
    steps: list[Step] = field(default_factory=list)
    knees: dict[str, Knee] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    derived: Derived | None = None
    replays: dict[str, dict[str, Any]] = field(default_factory=dict)

    def save(self) -> None:
        """Write the file, whole or not at all: a kill in the middle leaves the file that was there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = {
            "version": VERSION,
            "asked": self.asked,
            "about": self.about,
            "startup_s": self.startup_s,
            "together": self.together,
            "steps": [one.to_dict() for one in self.steps],
            "knees": {name: one.to_dict() for name, one in self.knees.items()},
            "skipped": self.skipped,
            "derived": self.derived.to_dict() if self.derived else None,
            "replays": self.replays,
        }
        half = self.path.with_suffix(".json.part")
        half.write_text(json.dumps(data, indent=1) + "\n")
        os.replace(half, self.path)

    @classmethod
    def read(cls, path: Path) -> State:
        """What a file holds. Raises OSError, or ValueError for a file that no tuning wrote."""
        data = json.loads(path.read_text())
        if not isinstance(data, dict) or data.get("version") != VERSION:
            raise ValueError(f"{path} is not a tuning's state of version {VERSION}")
        return cls(
            path,
            data["asked"],
            data["about"],
            data["startup_s"],
            data.get("together"),
            [Step.from_dict(one) for one in data["steps"]],
            {name: Knee.from_dict(one) for name, one in data["knees"].items()},
            data["skipped"],
            Derived.from_dict(data["derived"]) if data["derived"] else None,
            data["replays"],
        )

    def take_measurements(self, path: Path) -> None:
        """Take over what another tuning has measured of one replica, if its replica and its requests were like these;
        raises CannotResume."""
        alike = {key: self.asked.get(key) for key in ABOUT_A_REPLICA}
        other = State.resumed(path, alike, ABOUT_A_REPLICA)
        self.startup_s, self.steps, self.knees, self.skipped = other.startup_s, other.steps, other.knees, other.skipped

    @classmethod
    def resumed(cls, path: Path, asked: dict[str, Any], only: Collection[str] = ()) -> State:
        """What is at `path`, if the tuning that wrote it was asked what is `asked` now: in all keys, or in those of
        `only`. Raises CannotResume."""
        try:
            state = cls.read(path)
        except OSError as error:
            raise CannotResume(f"nothing to resume: {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise CannotResume(f"cannot resume from {path}: {error}") from None
        differ = [key for key in only or {*asked, *state.asked} if asked.get(key) != state.asked.get(key)]
        if differ:
            then = ", ".join(f"{key}: {state.asked.get(key)!r} then, {asked.get(key)!r} now" for key in sorted(differ))
            raise CannotResume(f"{path} is from another question ({then}); ask the same, or start without --resume")
        return state
