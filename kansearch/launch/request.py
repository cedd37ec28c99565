"""What a launcher is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LaunchRequest:
    """Workers to be started.

    Attributes:
        study: The study that they serve.
        n_workers: How many.
        pack: Trials that each trains together; None lets it decide.
        device: What each trains on: "cpu" or "cuda".
        environment: Added to theirs; the storage's URL travels here, where no process list shows it.
    """

    study: str
    n_workers: int
    pack: int | None
    device: str
    environment: Mapping[str, str]

    def command(self, python: str, number: int) -> list[str]:
        """The command line of one worker, numbered from 0."""
        command = [python, "-m", "kansearch", "worker", self.study, "--number", str(number)]
        command += [] if self.device == "cpu" else ["--device", self.device]
        return command if self.pack is None else [*command, "--pack", str(self.pack)]
