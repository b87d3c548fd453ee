"""The Serve controller's side of the key-value store: a thread reads what is held and writes what the policies say.

The controller's loop runs every policy and must never wait, so a policy takes what the thread last read and leaves
what is to be written. Ray Serve builds policies anew with each deployment; what lasts longer is kept here.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from serve_app.autoscaling import held
from serve_app.compat import kv_store

PERIOD_S = 0.5
"""How often counts are read and states written."""
IDLE_S = 30.0
"""The thread ends when no policy has asked for so long: the last application is gone."""
COMPLAIN_S = 60.0

logger = logging.getLogger("ray.serve")


class Exchange:
    """What policies and their thread pass each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tally = held.Tally()
        self._outgoing: dict[str, Any] = {}
        self._running = False
        self._asked_at = 0.0
        self._complained_at = -COMPLAIN_S

    def held(self, app: str, model: str) -> int:
        """Requests for the model that wait outside its replicas, as of at most a second ago."""
        with self._lock:
            self._asked_at = time.monotonic()
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="serve-app-autoscaling", daemon=True).start()
            return self._tally.held(self._asked_at, app, model)

    def write(self, key: str, fact: Any) -> None:
        """Have a fact written soon, unless a newer one of that key comes first."""
        with self._lock:
            self._outgoing[key] = fact

    def _run(self) -> None:
        while True:
            with self._lock:
                if time.monotonic() - self._asked_at > IDLE_S:
                    self._running = False
                    return
                outgoing, self._outgoing = self._outgoing, {}
            try:
                self._exchange(outgoing)
            except Exception as error:
                self._complain(error)
                with self._lock:
                    self._outgoing = outgoing | self._outgoing
            time.sleep(PERIOD_S)

    def _exchange(self, outgoing: dict[str, Any]) -> None:
        facts = kv_store.read_all(held.PREFIX)
        with self._lock:
            expired = self._tally.update(time.monotonic(), facts)
        for key in expired:
            kv_store.erase(key)
        for key, fact in outgoing.items():
            kv_store.write(key, fact)

    def _complain(self, error: Exception) -> None:
        if time.monotonic() - self._complained_at > COMPLAIN_S:
            self._complained_at = time.monotonic()
            logger.warning("autoscaling neither knows of held requests nor shows what it does: %r", error)


shared = Exchange()
"""The controller's."""
