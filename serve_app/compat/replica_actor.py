"""One replica of Ray Serve's as the actor it is: asked whether it is there, and ended where it is not.

Ray Serve 2.60 waits 30 s for an answer to each of three health checks before it replaces a replica, and then lets it
have all the time of a graceful end, on its GPU. An actor's name is that of its replica,
`SERVE_REPLICA::APP#DEPLOYMENT#ID`, and `check_health` is what Serve's controller calls; neither is public.
"""

from __future__ import annotations

import ray
from ray.exceptions import GetTimeoutError

PREFIX = "SERVE_REPLICA::"
NAME = PREFIX + "{app}#{deployment}#{replica}"
NAMESPACE = "serve"


def end_if_silent(app: str, deployment: str, replica: str, patience_s: float) -> bool:
    """End a replica's process unless it answers a health check within `patience_s`; whether it was ended.

    Serve then starts another at once. Blocks; raises what Ray raises, ValueError for a replica that there is not.
    """
    actor = ray.get_actor(NAME.format(app=app, deployment=deployment, replica=replica), NAMESPACE)
    try:
        ray.get(actor.check_health.remote(), timeout=patience_s)
    except GetTimeoutError:
        ray.kill(actor)
        return True
    except ray.exceptions.RayError:
        return False
    return False
