"""RFC 3339 times as Kubernetes writes them, and durations for people. Pure."""

from datetime import UTC, datetime


def stamp(moment: datetime) -> str:
    """The moment in UTC with whole seconds, as metav1.Time is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    """The moment that an RFC 3339 text names.

    Raises:
        ValueError: the text is not RFC 3339.
    """
    return datetime.fromisoformat(text)


def spoken(seconds: float) -> str:
    """A duration as kubectl prints ages: 45s, 2m13s, 3h4m, 2d5h."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days}d{hours}h" if hours else f"{days}d"
    if hours:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    if minutes:
        return f"{minutes}m{secs}s" if secs else f"{minutes}m"
    return f"{secs}s"
