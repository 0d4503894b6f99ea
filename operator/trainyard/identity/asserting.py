"""What a token source lets be looked at before it signs in. Kept by `exchange` and `entra`; asked by the doctor."""

from typing import Protocol, runtime_checkable

from trainyard.identity.assertion import Assertion


@runtime_checkable
class Asserting(Protocol):
    """A TokenSource that signs in with an assertion."""

    def assertion(self) -> Assertion | None:
        """A fresh assertion, made as for a sign-in and sent nowhere; None where it has another proof.

        Raises what `TokenSource.token` raises.
        """
