"""All served models of one sandbox, the scripts for them, and the process that they are forked from.

`SandboxState.serving` is the one; server.py stops it. The platforms' endpoints ask it for each model they serve.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from trainyard_sandbox.serving.nursery import Nursery
from trainyard_sandbox.serving.scripts import Identity, Script, Scripts
from trainyard_sandbox.serving.served_model import ServedModel, Source


class Fleet:
    """The served models.

    Args:
        directory: for the models' copies and logs; made when something is served.
        now: the sandbox's clock, Unix seconds.
        pretend: nothing is loaded, unless a script says otherwise (`--engine pretend`).
    """

    def __init__(self, directory: Path, now: Callable[[], float], *, pretend: bool = False) -> None:
        self.scripts = Scripts(pretend=pretend)
        self._directory = directory
        self._now = now
        self._nursery = Nursery(directory)
        self._keys = itertools.count(1)
        self._models: list[ServedModel] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, identity: Identity, source: Source) -> ServedModel:
        """A new served model in state creating; `await model.provision()` brings it up."""
        key = next(self._keys)
        directory = self._directory / str(key)
        model = ServedModel(identity, key, source, self.scripts, self._nursery, directory, self._now)
        self._models.append(model)
        return model

    def live(self, platform: str | None = None, endpoint: str | None = None) -> list[ServedModel]:
        """What is not gone, oldest first."""
        self._models = [model for model in self._models if not model.is_gone]
        return [
            model
            for model in self._models
            if platform in (None, model.identity.platform) and endpoint in (None, model.identity.endpoint)
        ]

    def add_script(self, script: Script) -> None:
        """One more script; idle seconds count anew."""
        self.scripts.add(script)
        self._rearm()

    def clear_scripts(self) -> None:
        """No script any more."""
        self.scripts.clear()
        self._rearm()

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work in the background, until it is done or the sandbox stops."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """End all work and every process, without waiting for requests."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(model.retire(drain_seconds=0) for model in self.live()))
        await self._nursery.stop()

    def _rearm(self) -> None:
        for model in self.live():
            model.rearm()
