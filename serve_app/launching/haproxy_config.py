"""What this service changes in the configuration that Ray Serve writes for HAProxy, where no variable of Serve's does.

Ray 2.60's template is `ray/serve/_private/haproxy_templates.py`; HAProxy's manual is docs.haproxy.org/2.8.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from serve_app.http.dialects import dialect, to_json
from serve_app.planning.open_files import most_connections

MAX_CONNECTIONS = 65_536
"""Unless RAY_SERVE_HAPROXY_MAXCONN says otherwise; Serve's own default is 4,096."""
MAX_HEADER_BYTES = 2**16
"""Of one request, all together."""
MAX_HEADERS = 256
BUFFER_BYTES = 2**18
"""Headers that do not fit into a buffer HAProxy refuses in its own words, which no setting of 2.8 changes, so a buffer
holds four times what is allowed. It takes memory only as far as it has been used."""
PARSED_HEADERS = 4_096
"""What is above MAX_HEADERS is refused in OpenAI's schema, what is above this in HAProxy's own words."""
HEAD_TIMEOUT_S = 15
"""For a request's headers to arrive, and for the next request on a connection to begin."""
STUCK_TIMEOUT_S = 20
"""A client that for as long does not send what is due, or does not read what is there, is let go, unless
RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S says otherwise; Serve's own default is an hour. Waiting for an answer does not
count. Longer than the ingress waits for a body, so that it can say so."""
UPLOAD_BYTES = 2**16
"""A body that is announced as longer, or without a length, may not have been read to its end when its request is
refused. What is left of it then ends the connection, which the client has to know before it sends another request."""
PIPES = 100
"""For moving bodies inside the kernel, two open files each; without one a body goes through a buffer."""
AGAIN = "send the request again"
TOO_MANY_HEADERS = (
    f"the request has more than {MAX_HEADER_BYTES // 1024} KiB of headers or more than {MAX_HEADERS} of them:"
    " send fewer and shorter ones"
)


class HaproxyError(NamedTuple):
    """One of HAProxy's own."""

    status: int
    message: str
    code: str | None = None
    retry_after_s: int | None = None


ERRORS = (
    HaproxyError(400, "the request is not valid HTTP, or its body ended early", "bad_request"),
    HaproxyError(408, "the request did not arrive in time: send it whole", "request_timeout"),
    HaproxyError(413, "the request is too large", "body_too_large"),
    HaproxyError(500, f"the load balancer failed on this request; {AGAIN}", "load_balancer_failed"),
    HaproxyError(501, "the load balancer does not know this transfer encoding: use chunked or Content-Length"),
    HaproxyError(502, f"the ingress ended while it answered; {AGAIN}", "ingress_failed"),
    HaproxyError(503, f"no ingress process is ready; {AGAIN}", "ingress_not_ready", retry_after_s=1),
    HaproxyError(504, f"the ingress did not answer in time; {AGAIN}", "ingress_timeout"),
)
"""What HAProxy answers by itself."""
NO_SUCH_PATH = HaproxyError(404, "there is no such path here; /docs shows the API", "path_not_found")
STARTING = HaproxyError(503, "the service is starting; try again in a few seconds", "starting", retry_after_s=5)

_REQUEST_ID = (
    "    http-request set-var(txn.request_id) uuid",
    "    http-request set-var(txn.request_id) req.hdr(x-request-id) if { req.hdr(x-request-id) -m found }",
    "    http-request set-header x-request-id %[var(txn.request_id)]",
    "    http-after-response set-header x-request-id %[var(txn.request_id)]"
    " if !{ res.hdr(x-request-id) -m found } { var(txn.request_id) -m found }",
)
"""Each request and each answer has an id, HAProxy's own answers too: the client's, or a new one."""
_SERVES_OWN_HEADERS = (
    "x-request-timeout-seconds",
    "x-request-disconnect-disabled",
    "serve_multiplexed_model_id",
    "serve-multiplexed-model-id",
)
"""They steer Ray Serve from outside."""


def amend(text: str, variables: Mapping[str, str]) -> str:
    """The configuration as it is to be. Raises ValueError where it is not as Ray 2.60 writes it.

    `variables` is the environment: what it sets of Serve's stays as set.
    """
    connections = most_connections(_number(variables, "MAXCONN", MAX_CONNECTIONS))
    stuck_s = _number(variables, "TIMEOUT_CLIENT_S", STUCK_TIMEOUT_S)
    buffer = _number(variables, "TUNE_BUFSIZE", BUFFER_BYTES)
    routed = re.search(r"^    use_backend ", text, re.M)
    elsewhere = _answer(NO_SUCH_PATH if routed else STARTING)
    for what, pattern, *lines in (
        ("the metrics port", r"(^frontend prometheus\n +bind )\*?(?=:)", "127.0.0.1"),
        ("the statistics port", r"(^listen stats\n +bind )\*?(?=:)", "127.0.0.1"),
        ("the admin socket", r"(^    stats socket \S+ mode )666\b", "600"),
        (
            "maxconn",
            r"^    maxconn \d+$",
            f"    maxconn {connections}",
            f"    maxpipes {PIPES}",
            "    no strict-limits",
        ),
        (
            "tune.bufsize",
            r"^    tune\.bufsize \d+$",
            f"    tune.bufsize {buffer}",
            f"    tune.http.maxhdr {PARSED_HEADERS}",
        ),
        ("timeout client", r"^    timeout client \d+s$", f"    timeout client {stuck_s}s"),
        (
            "timeout http-keep-alive",
            r"^    timeout http-keep-alive \d+s$",
            f"    timeout http-keep-alive {HEAD_TIMEOUT_S}s",
            f"    timeout http-request {HEAD_TIMEOUT_S}s",
        ),
        ("errorfile", r"(?:^    errorfile \d+ \S+$\n?)+", *map(_own_answer, ERRORS), ""),
        ("/-/healthz", r"^(?=    acl healthcheck path )", *_admission(), ""),
        ("/-/routes", r"^    http-request return status \d+ .* if routes$", f"    {_answer(NO_SUCH_PATH)} if routes"),
        ("the default backend", r"(^backend default_backend\n)    http-request return .*$", f"    {elsewhere}"),
    ):
        text, found = re.subn(pattern, _keeping("\n".join(lines)), text, flags=re.M)
        if not found:
            raise ValueError(f"{what} is not where Ray Serve 2.60 writes it")
    return text


def _number(variables: Mapping[str, str], name: str, otherwise: int) -> int:
    return int(variables.get(f"RAY_SERVE_HAPROXY_{name}") or otherwise)


def _keeping(new: str) -> Callable[[re.Match[str]], str]:
    """Puts `new` in the place of a match, behind its first group if it has one."""
    return lambda match: "".join(match.groups()) + new


def _admission() -> Iterator[str]:
    """Rules for each request, before any other."""
    yield from _REQUEST_ID
    too_many = HaproxyError(431, TOO_MANY_HEADERS, "headers_too_large")
    for condition in (f"req.hdrs,length gt {MAX_HEADER_BYTES}", f"req.fhdr_cnt() gt {MAX_HEADERS}"):
        yield f"    {_answer(too_many)} if {{ {condition} }}"
    unread = f"{{ req.body_size gt {UPLOAD_BYTES} }} || {{ req.hdr(transfer-encoding) -m found }}"
    yield f"    http-request set-var(txn.upload) bool(true) if {unread}"
    yield "    http-after-response set-header connection close if { status 408 }"
    yield "    http-after-response set-header connection close if { var(txn.upload) -m bool } { status ge 400 }"
    for name in _SERVES_OWN_HEADERS:
        yield f"    http-request del-header {name}"


def _answer(error: HaproxyError) -> str:
    return f"http-request return {_status(error)}"


def _own_answer(error: HaproxyError) -> str:
    return f"    http-error {_status(error)}"


def _status(error: HaproxyError) -> str:
    body = to_json(dialect("").error(error.status, error.message, None, error.code))
    later = f" hdr Retry-After {error.retry_after_s}" if error.retry_after_s else ""
    return f"status {error.status} content-type application/json string {shlex.quote(body.decode())}{later}"
