"""The inbox's stored secrets under the first encryption key."""

from __future__ import annotations

from typing import Any

from automation_lab.core.registry import Rotation
from automation_lab.core.rotation import Counter, rotate_rows
from inbox.models import Replay, Source
from inbox.replaying.forwarding import replay_binding
from inbox.secrets import secret_binding


def rotate_sources(dry_run: bool) -> Rotation:
    """The signing secrets of every source."""

    def change(source: Source, counter: Counter) -> list[str]:
        bind = secret_binding(source.name)
        before = source.secrets
        source.secrets = [
            {**secret, "ciphertext": counter.rotated(secret["ciphertext"], bind=bind)} for secret in before
        ]
        return ["secrets"] if source.secrets != before else []

    return rotate_rows(Source.objects.exclude(secrets=[]), change, dry_run=dry_run)


def rotate_replays(dry_run: bool) -> Rotation:
    """Headers and signing secrets that were given with a replay."""

    def change(replay: Replay, counter: Counter) -> list[str]:
        before = replay.options
        replay.options = _rotated_options(before, counter, label=f"replay:{replay.pk}")
        return ["options"] if replay.options != before else []

    return rotate_rows(Replay.objects.all(), change, dry_run=dry_run)


def _rotated_options(options: dict[str, Any], counter: Counter, *, label: str) -> dict[str, Any]:
    changed, bind = dict(options), replay_binding(options.get("url", ""))
    if "headers_ciphertext" in options:
        changed["headers_ciphertext"] = counter.rotated(options["headers_ciphertext"], bind=bind, label=label)
    signing = options.get("signing", {})
    if "ciphertext" in signing:
        token = counter.rotated(signing["ciphertext"], bind=bind, label=label)
        changed["signing"] = {**signing, "ciphertext": token}
    return changed
