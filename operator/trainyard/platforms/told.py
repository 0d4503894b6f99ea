"""What every platform tells the code, and the tags that it puts on everything: whose run it is. Pure.

Used by the translators.
"""

from collections.abc import Iterable, Mapping

from trainyard.core.errors import TranslationError
from trainyard.platforms.base import Job

# Environment variables and tags that begin like this are the operator's.
OUR_VARIABLES = "TRAINYARD_"
OUR_TAGS = "trainyard"
MODEL_VARIABLE = "TRAINYARD_MODEL_NAME"


def variables(job: Job) -> dict[str, str]:
    """The environment variables that tell the code which attempt it is."""
    return {
        "TRAINYARD_NAMESPACE": job.namespace,
        "TRAINYARD_NAME": job.name,
        "TRAINYARD_ATTEMPT": str(job.attempt),
    }


def data_variables(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that tell the code where its data lies, from what each name stands for.

    Raises:
        TranslationError: two names become one variable.
    """
    found: dict[str, str] = {}
    for kind, places in (("INPUT", inputs), ("OUTPUT", outputs)):
        for name, text in places.items():
            variable = f"{OUR_VARIABLES}{kind}_{name.upper()}"
            if variable in found:
                raise TranslationError(
                    f"spec.{kind.lower()}s[{name}]", f"another one becomes {variable} as well; give one another name"
                )
            found[variable] = text
    return found


def refuse_our_tags(keys: Iterable[str], field: str) -> None:
    """Keeps the keys of our own tags to the operator.

    Raises:
        TranslationError: InvalidSpec.
    """
    for key in keys:
        if key.lower().startswith(OUR_TAGS):
            raise TranslationError(field, f"{key!r}: keys that start with {OUR_TAGS} are the operator's")
