"""The cache over the providers of live secrets."""

from __future__ import annotations

import pytest

from automation_lab.core.redaction.masks import LIFETIME_SECONDS, SecretMasks
from automation_lab.core.registry import Registry


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def providers() -> Registry:
    return Registry("secret values")


def test_values_are_asked_for_again_only_after_their_lifetime(providers, clock):
    values = ["first-value"]
    providers.register("app", lambda: values)
    masks = SecretMasks(providers, clock)
    assert masks.found_in("first-value", refresh=True)

    values[:] = ["second-value"]

    assert not masks.found_in("second-value", refresh=True)
    clock.now = LIFETIME_SECONDS
    assert masks.found_in("second-value", refresh=True)
    assert not masks.found_in("first-value", refresh=True)


def test_without_refresh_no_provider_is_asked(providers, clock):
    asked = []
    providers.register("app", lambda: asked.append(1) or [])

    SecretMasks(providers, clock).found_in("text", refresh=False)

    assert asked == []


def test_a_provider_that_fails_keeps_its_last_values_and_harms_no_other(providers, clock):
    def away() -> list[str]:
        if clock.now:
            raise RuntimeError("the database is away")
        return ["kept-value"]

    providers.register("away", away)
    providers.register("other", lambda: [f"other-value-{clock.now:.0f}"])
    masks = SecretMasks(providers, clock)
    masks.refresh()

    clock.now = LIFETIME_SECONDS

    assert masks.found_in("kept-value", refresh=True)
    assert masks.found_in("other-value-5", refresh=True)


def test_a_value_in_use_is_found_before_and_after_the_providers_know_it(providers, clock):
    values = ["other-value"]
    providers.register("app", lambda: values)
    masks = SecretMasks(providers, clock)
    masks.refresh()

    masks.remember("used-value")
    masks.remember("short")
    before = masks.found_in("used-value", refresh=True)
    values[:] = []
    clock.now = LIFETIME_SECONDS

    assert before
    assert masks.found_in("used-value", refresh=True)
    assert not masks.found_in("other-value", refresh=True)
    assert not masks.found_in("short", refresh=True)


def test_a_provider_that_logs_through_redaction_does_not_recurse(providers, clock):
    masks = SecretMasks(providers, clock)
    providers.register("app", lambda: (masks.found_in("a log line", refresh=True) and []) or ["found-value"])

    assert masks.found_in("found-value", refresh=True)
