"""Connects a load test to Locust's events, in each of its processes: alone, as the master, or as a worker.

Without workers or in a worker, a test's start opens a Session, which the users send with. The master gives each worker
its share of the test before, and adds up what they report.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import gevent
from locust.env import Environment
from locust.event import Events
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtests.arguments import BadSpec
from loadtests.loadgen import locust_stats, options, preflight, record_parts, web
from loadtests.loadgen.load_shape import START_DELAY_S
from loadtests.loadgen.options import EPOCH_SIGN, Options
from loadtests.loadgen.process_report import ProcessReport
from loadtests.loadgen.session import ProcessShare, Session
from loadtests.loadgen.users import SessionUser
from loadtests.results.record import Record

SHARE = "llm-share"
"""The message that gives a worker its share of a test."""
TELL_S = 5.0
"""How often a test without a web UI logs how far it is, s."""
REPORT = "llm"
"""Where a worker's report to its master holds its ProcessReport."""
NOTHING_OK = 1
"""Exit status of a test in which no request was answered, as of one in which some failed."""
NOTHING_SENT = 3
"""Exit status of a test that ended before a request was due."""


def install(events: Events) -> None:
    """Called by the Locust file, once a process."""
    locust_stats.install()
    events.init_command_line_parser.add_listener(options.add)
    events.init_command_line_parser.add_listener(_check_what_is_parsed)
    events.init.add_listener(lambda environment, **_: Harness(environment))


class Harness:
    """What one process of Locust does at each event of a test."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._runner = environment.runner
        self._counted = ProcessReport()
        self._options: Options | None = None
        self._session: Session | None = None
        self._share: ProcessShare | None = None
        self._teller: gevent.Greenlet | None = None
        events = environment.events
        events.test_start.add_listener(self._start)
        events.test_stop.add_listener(self._stop)
        if isinstance(self._runner, WorkerRunner):
            self._runner.register_message(SHARE, self._on_share)
            events.report_to_master.add_listener(self._report)
        else:
            events.worker_report.add_listener(self._on_report)
            events.quitting.add_listener(self._judge)
            events.quit.add_listener(self._print)
            if environment.web_ui:
                web.extend(environment.web_ui, lambda: locust_stats.table(environment.stats, self._counted))
                web.check_first(environment.web_ui, environment, _check)

    def _judge(self, **_: Any) -> None:
        """Set the exit status of a test in which nothing was answered: Locust's own would say that all is well."""
        total = self._counted.total()
        if self._options and not total.ok:
            self._environment.process_exit_code = NOTHING_OK if total.requests else NOTHING_SENT

    def _start(self, **_: Any) -> None:
        self._close()
        self._counted = ProcessReport()
        try:
            self._options = Options.of(self._environment.parsed_options)
        except BadSpec as error:
            logging.error(str(error))
            return
        if not isinstance(self._runner, WorkerRunner) and self._environment.web_ui is None:
            self._teller = gevent.spawn(self._tell)
        if isinstance(self._runner, MasterRunner):
            self._share_out(self._runner, self._options)
            return
        worker = None
        if isinstance(self._runner, LocalRunner):
            self._share = ProcessShare(0, 1, _epoch())
        elif isinstance(self._runner, WorkerRunner):
            worker = self._runner.client_id
        share, self._share = self._share, None
        if share is None:
            logging.error("this worker got no share of the test from its master: do both run the same Locust file?")
            return
        name = f"process {share.index}"
        self._session = Session(
            str(self._environment.host),
            self._options,
            share,
            worker,
            self._take,
            lambda cores: self._watched(name, cores),
        )
        SessionUser.session = self._session

    def _share_out(self, runner: MasterRunner, options: Options) -> None:
        """Tell each worker its part. Messages keep their order, so a worker has it before it is told to start."""
        epoch = _epoch()
        workers = list(runner.clients)
        for index, worker in enumerate(workers):
            runner.send_message(SHARE, {"index": index, "of": len(workers), "epoch": epoch}, worker)
        if options.records:
            record_parts.clear(options.records)
            record_parts.gather_at_exit(options.records)

    def _on_share(self, environment: Environment, msg: Any, **_: Any) -> None:
        self._share = ProcessShare(**msg.data)

    def _take(self, record: Record, gaps: list[float]) -> None:
        assert self._options is not None
        row = self._options.row(record)
        self._counted.add(record, self._options.slo, row)
        locust_stats.log(self._environment.stats, row, record, gaps, self._options.traffic is not None)
        if record.outcome != "refused":
            self._environment.events.request.fire(
                request_type=locust_stats.E2E,
                name=row,
                response_time=record.scheduled_latency_s * 1000,
                response_length=0,
                exception=record.detail or None,
                context={},
            )

    def _watched(self, process: str, cores: float) -> None:
        self._counted.busiest[process] = max(cores, self._counted.busiest.get(process, 0.0))

    def _report(self, client_id: str, data: dict[str, Any]) -> None:
        data[REPORT] = self._counted.take()

    def _on_report(self, client_id: str, data: dict[str, Any]) -> None:
        if REPORT in data:
            self._counted.merge(ProcessReport.of(data[REPORT]))

    def _stop(self, **_: Any) -> None:
        self._close()
        if isinstance(self._runner, MasterRunner) and self._options and self._options.records:
            record_parts.gather(self._options.records, keep_parts=True)

    def _tell(self) -> None:
        while True:
            gevent.sleep(TELL_S)
            logging.info(locust_stats.progress(self._counted))

    def _close(self) -> None:
        if self._teller:
            self._teller.kill()
            self._teller = None
        if self._session:
            self._session.close()
            self._session = None

    def _print(self, **_: Any) -> None:
        if self._options:
            print(locust_stats.summary(self._environment.stats, self._counted, self._options.slo), flush=True)


def _check(parsed: Any) -> None:
    """Raises BadSpec for a test that cannot be."""
    found = Options.of(parsed)
    preflight.check(parsed.host, found.models, found.api_key)


def _check_what_is_parsed(parser: Any) -> None:
    """End Locust, as for any option that cannot be read, before it starts other processes. With a web UI the service
    need not be there yet, and a worker's options come from its master."""
    parse_args = parser.parse_args

    def checked(*args: Any, **kw: Any) -> Any:
        parsed = parse_args(*args, **kw)
        try:
            if not parsed.worker:
                (_check if parsed.headless else Options.of)(parsed)
        except BadSpec as error:
            parser.error(str(error))
        return parsed

    parser.parse_args = checked


def _epoch() -> float:
    """When the test's time begins, said in the log for who watches other things beside it; seconds since the epoch."""
    epoch = time.time() + START_DELAY_S
    logging.info("%s%.3f", EPOCH_SIGN, epoch)
    return epoch
