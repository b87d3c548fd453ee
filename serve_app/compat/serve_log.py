"""Lines that Ray and Ray Serve 2.60 write to their log, from which a launcher learns how far a service is.

No interface tells a process outside the cluster that Ray is up, that Serve is, or that Serve has given a deployment up,
before the ingress answers. These are texts of Ray's source, which `tests/unit/compat/test_upgrade.py` looks for there.
"""

from __future__ import annotations

import re

MILESTONES = {
    "Started a local Ray instance": "Ray is up",
    "Connected to Ray cluster": "connected to Ray",
    "Started Serve in namespace": "Ray Serve is up",
    "Submitted deploy config": "deploying",
}
"""What the log says, and what that means to whoever waits."""
NODE_TOO_SLOW = "The current node timed out during startup"
"""Ray gives a node of its own 30 s to start, which no setting changes."""
GAVE_UP = ("Failed to update the deployments", "failed with exception", "failed to start deployment actors")
"""Serve gave up on an application or on a deployment."""
GIVEN_UP = re.compile(rf"{GAVE_UP[0]}|Deploying app .* {GAVE_UP[1]}|{GAVE_UP[2]}")
REPLICA_FAILED = re.compile(r"Exception (?:in|when allocating) Replica\(id='\w+', deployment='([^']+)'")
"""A replica failed its start; the group is its deployment."""
REPLICA_WAITS = re.compile(r"taken more than \d+s to (?:be scheduled|initialize)")
"""A replica finds no place, or is slow."""
