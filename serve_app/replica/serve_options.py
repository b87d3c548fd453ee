"""Options of Ray Serve's that the deployments of this service have in common."""

from __future__ import annotations

HEALTH_PERIOD_S = 1.0
"""Between two health checks of a replica. Serve replaces one after three failed checks in a row."""
SHUTDOWN_MARGIN_S = 30.0
"""What a replica has, beyond the time in which its open requests may end, to end itself."""
POLL_S = 0.5
"""How often Serve looks whether a replica that it has told to leave is done."""
NO_LIMIT = 1_000_000
"""For `max_ongoing_requests`: Serve sees no request between ingress and replicas. The limits that hold are those of the
ingress's pools and of the replicas' admission control."""
