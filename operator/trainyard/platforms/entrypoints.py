"""Whether what an entrypoint names is in the code. Pure. Used by the translators."""

import posixpath
from collections.abc import Mapping

from trainyard.core.errors import TranslationError
from trainyard.platforms.references import listed


def check_file(name: str, field: str, files: Mapping[str, bytes] | None) -> None:
    """Refuses a file that is not in the code. `files` is None where nobody knows them.

    Raises:
        TranslationError: EntrypointMissing.
    """
    if files is not None and name not in files:
        raise TranslationError(
            field, f"{name!r} is not in the code, which has {listed(files)}", reason="EntrypointMissing"
        )


def check_module(module: str, field: str, files: Mapping[str, bytes] | None) -> None:
    """Refuses a module that should be in the code and is not; an installed package's may be run as well.

    Raises:
        TranslationError: EntrypointMissing.
    """
    if files is None:
        return
    path = module.replace(".", "/")
    endings = (f"{path}.py", f"{path}/__main__.py")
    if any(ending in files for ending in endings):
        return
    top = path.partition("/")[0]
    deeper = sorted(name for name in files if name.endswith(tuple(f"/{ending}" for ending in endings)))
    if deeper:
        where = (
            posixpath.dirname(deeper[0].removesuffix("/__main__.py")).removesuffix(posixpath.dirname(path)).rstrip("/")
        )
        hint = f"it is below {where!r}, which has to be the source folder, with git as code.git.path"
    elif any(name == f"{top}.py" or name.startswith(f"{top}/") for name in files):
        hint = f"the code has {listed(files)}"
    else:
        return
    raise TranslationError(field, f"{module!r} is not a module of the code: {hint}", reason="EntrypointMissing")


def no_files(field: str) -> TranslationError:
    """The error of a file that is to be started from a wheel."""
    return TranslationError(
        field, "a wheel has no files to start; name a consoleScript or a module", reason="EntrypointMissing"
    )


def no_wheel(field: str) -> TranslationError:
    """The error of a console script that nothing installs."""
    return TranslationError(
        field, "a console script is installed by a wheel: use code.wheel, or name a module", reason="EntrypointMissing"
    )
