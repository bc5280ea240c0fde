"""The named registries through which an upper app offers something to a lower one.

Each app fills them in `AppConfig.ready()`. Keys are stored data (step types, job names): never renamed, never reused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class UnknownKey(LookupError):
    """No entry of that key; the message lists the known ones."""


class Registry(Generic[T]):
    """Entries by key. Registering a key twice is a programming error and raises ValueError."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._entries: dict[str, T] = {}

    def register(self, key: str, entry: T) -> T:
        if key in self._entries:
            raise ValueError(f"{self.name}: {key!r} is registered already.")
        self._entries[key] = entry
        return entry

    def get(self, key: str) -> T:
        try:
            return self._entries[key]
        except KeyError:
            raise UnknownKey(
                f"{self.name}: {key!r} is unknown; known are {', '.join(sorted(self._entries))}."
            ) from None

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def items(self) -> list[tuple[str, T]]:
        return list(self._entries.items())

    def values(self) -> list[T]:
        return list(self._entries.values())


@dataclass(frozen=True)
class ServerJob:
    """Something the server can do by itself on a schedule. `run(arguments)` returns the output, a JSON object."""

    run: Callable[[dict[str, Any]], dict[str, Any]]
    config_schema: dict[str, Any]
    help: str


@dataclass(frozen=True)
class ReplayTarget:
    """Where stored webhooks can be sent again. `permission` and `scope_area` are what the caller needs for it.

    `check(options)` raises Invalid, NotFound or Conflict, and returns the options to keep. `start(webhook, replay)`
    records one execution or more in the caller's transaction and returns them; it raises an AutomationLabError when
    this webhook cannot be replayed. `executions(replay)` is the queryset of all that it has started.
    """

    check: Callable[[dict[str, Any]], dict[str, Any]]
    start: Callable[[Any, Any], list[Any]]
    executions: Callable[[Any], Any]
    permission: str
    scope_area: str


@dataclass(frozen=True)
class PrunableTable:
    """Rows that may go when they are old. `prune(now=, days=, dry_run=)` deletes them in short transactions; returns how
    many, or how many it would be. `setting` names the days they are kept; 0 there keeps them for ever. Without one, the
    rules are `prune`'s own.
    """

    setting: str
    prune: Callable[..., int]


@dataclass(frozen=True)
class Rotation:
    """What became of the ciphertexts of one kind: encrypted anew, made with the first key already, not readable."""

    rotated: int
    current: int
    unreadable: list[str]


@dataclass(frozen=True)
class SecretUser:
    """Something that names a secret; `kind` such as task, `name` what people call it."""

    kind: str
    id: int
    name: str


executables: Registry[Any] = Registry("executables")
"""kind -> core.execution.runner.Executable: what the engine can run."""

tick_sources: Registry[Callable[[datetime], datetime | None]] = Registry("tick sources")
"""name -> callable(now) that turns due schedules into executions and returns when it is next due."""

secret_values: Registry[Callable[[], list[str]]] = Registry("secret values")
"""name -> callable giving the plain values that redaction must mask."""

live_topics: Registry[Any] = Registry("live topics")
"""topic -> automation_lab.core.live.Topic: rows that the live port announces."""

server_jobs: Registry[ServerJob] = Registry("server jobs")
"""name -> what a task of type `cron` may run, `prune` among them."""

replay_targets: Registry[ReplayTarget] = Registry("replay targets")
"""name -> where webhooks of the inbox can be sent again."""

prunable_tables: Registry[PrunableTable] = Registry("prunable tables")
"""name -> what `prune` deletes by the RETENTION_… settings, in the order of their registration."""

encrypted_values: Registry[Callable[[bool], Rotation]] = Registry("encrypted values")
"""name -> callable(dry_run) that encrypts what it stores with the first key."""

secret_users: Registry[Callable[[], Iterator[tuple[str, SecretUser]]]] = Registry("secret users")
"""name -> callable giving (name of a secret, who names it), for every use."""
