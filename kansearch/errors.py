"""The error family: one class per person who can mend what is wrong.

Every class holds the exit code with which the command line ends; the message is all that a person sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class KansearchError(Exception):
    """Something that a person can mend; its message names the place, the value and what is allowed."""

    exit_code = 1


class UserError(KansearchError):
    """A flag, a path or a value that whoever typed the command can mend."""

    exit_code = 2


class MissingExtraError(UserError):
    """Something that kansearch does only where it was installed with one of its extras."""

    def __init__(self, what: str, module: str, extra: str) -> None:
        super().__init__(f"{what} needs the module {module}: pip install 'kansearch[{extra}]'")


@dataclass(frozen=True)
class Mistake:
    """One mistake of a study file.

    Attributes:
        path: Where it is, in dots: `space.width.low`.
        message: What is wrong and what is allowed, ready to stand behind the path.
        line: Line in the file, from 1; None where the file has no such place.
    """

    path: str
    message: str
    line: int | None = None


class StudyFileError(UserError):
    """A study file with mistakes, all of them together."""

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(mistakes)
        width = max((len(mistake.path) for mistake in mistakes), default=0)
        n_lines = len(str(max((mistake.line or 0 for mistake in mistakes), default=0)))
        lines = [
            f"  {'line ' + str(m.line).rjust(n_lines) + '  ' if m.line else ' ' * (7 + n_lines)}"
            f"{m.path:<{width}}  {m.message}"
            for m in mistakes
        ]
        count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        super().__init__("\n".join([f"{source} has {count}", *lines]))


class DataError(UserError):
    """Data that cannot be read or does not fit the study."""


class StudyChangedError(UserError):
    """A study file that no longer describes the study of that name in the storage."""


class StudyExistsError(UserError):
    """A new study whose name the storage holds already."""


class StorageUrlError(UserError):
    """A storage URL that cannot be one."""


class EmptyStorageError(UserError):
    """A storage that answers, but in which no study was ever made."""


class StorageError(KansearchError):
    """A storage that does not answer or refuses us; its operator can mend it."""

    exit_code = 3


class LaunchError(KansearchError):
    """Workers that could not be started or keep dying."""

    exit_code = 3
