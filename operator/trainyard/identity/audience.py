"""The audience of the assertions that go to Databricks: one per operator, never the API server's own. Pure."""

DEFAULT_AUDIENCE = "trainyard-databricks"

# What API servers accept as their own audience. An assertion with one of these would be a Kubernetes credential.
_RESERVED = frozenset({"kubernetes", "api", "kubernetes.default.svc"})


def checked_audience(audience: str) -> str:
    """The audience, if assertions may carry it.

    Raises:
        ValueError: it is empty, or an API server would take it for its own.
    """
    plain = audience.strip().lower()
    if not plain or plain != audience.lower():
        raise ValueError("the audience must not be empty or padded with spaces")
    if plain in _RESERVED or plain.startswith("https://kubernetes"):
        raise ValueError(
            f"audience {audience!r} is an API server's own: a platform could use the assertion against the cluster. "
            f"Use another one, for example {DEFAULT_AUDIENCE}."
        )
    return audience
