"""Events as log lines: one line an event, as text for people or as JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import IO, Any

from settlement_core.observers.streams import OncePerMinute, PatientHandler
from settlement_core.values.events import Event
from settlement_core.values.texts import visible_text

__all__ = ["LogObserver", "start_logging"]

logger = logging.getLogger("settlement_core")


class LogObserver:
    """Hands every event to the logger `settlement_core`, with the event itself as `record.event`."""

    def observe(self, event: Event) -> None:
        """Log the event at its level."""
        level = logging.getLevelName(event.level.upper())
        if logger.isEnabledFor(level):
            logger.log(level, "%s", event, extra={"event": event})


class _TextFormatter(logging.Formatter):
    """One line a record. What errors say may come from outside: nothing of it moves a cursor or passes for a record."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-8s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging calls it so
        """Return the record's own line."""
        return visible_text(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the traceback below it, indented: no line of it looks like a record."""
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"    {visible_text(line)}" for line in lines)

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """Return the stack below it, indented."""
        return "\n".join(f"    {visible_text(line)}" for line in stack_info.splitlines())


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object: when, how grave, what, and the event's facts."""
        content: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
        }
        event = getattr(record, "event", None)
        if isinstance(event, Event):
            content |= {"event": type(event).__name__, **event.facts()}
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, default=str)


def start_logging(*, style: str = "text", level: str = "info", stream: IO[str] | None = None) -> None:
    """Send the log to a stream (standard error) as "text" or "json"; for programs, not for libraries.

    Lines are written by a thread: a stream that nobody reads holds nobody up. What does not fit is dropped, and told.
    """
    handler = PatientHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if style == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logger.setLevel(level.upper())
    # out of files, asyncio logs every connection that it cannot accept, thousands a second
    logging.getLogger("asyncio").filters[:] = [OncePerMinute()]
    # hypercorn speaks through it, in its own words, of what we tell ourselves
    logging.getLogger(f"{logger.name}.http").setLevel(max(logging.WARNING, logger.level))
