"""Structured logs: JSON lines for machines, or console lines for people. Never a token: see `redact`."""

import logging
import re
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

# A JWT, or what follows "Bearer": the last line of defence, behind never passing a token to a log in the first place.
# JWTs, tokens and secrets of Databricks, what an Authorization header holds, private keys.
_SECRET = re.compile(
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?|(?i:bearer)\s+[^\s\"']+"
    r"|\b(?:dapi|dose)[0-9a-f]{16,}(?:-[0-9]+)?|(?i:basic)\s+[A-Za-z0-9+/]{16,}=*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^-]*-----END [A-Z ]*PRIVATE KEY-----|[^-]*)"
)
_QUIET = ("kopf", "databricks", "urllib3", "asyncio", "kubernetes", "httpx", "azure", "msal")


def configure(form: Literal["json", "console"], level: int = logging.INFO) -> None:
    """Sends structlog's and the standard library's records to stderr in one form."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def redacted(text: str) -> str:
    """The text without anything that looks like a token."""
    return _SECRET.sub("[redacted]", text)


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Blots out anything that looks like a token, in every text of the record."""
    return {key: redacted(value) if isinstance(value, str) else value for key, value in event.items()}
