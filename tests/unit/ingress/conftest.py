from __future__ import annotations

import asyncio

import pytest
import uvloop


@pytest.fixture(scope="session")
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """The ingress runs on uvloop, whose transports differ from asyncio's."""
    return uvloop.EventLoopPolicy()
