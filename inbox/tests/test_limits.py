"""Never more than the limit passes within any period, and nearly all of it does, whoever asks."""

from __future__ import annotations

import multiprocessing
import threading

import pytest
from django.db import connection

from inbox.models import RateWindow, Source, Webhook
from inbox.receiving import limits
from inbox.receiving.limits import BUCKETS, Limit, Limiter, RateLimited, limits_for
from inbox.tests.factories import SourceFactory

pytestmark = pytest.mark.django_db
PATH = "/v1/webhooks/inbox/shop"
YEAR = 365 * 86_400  # of buckets so long that hardly one ends during a test


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """A process that has not asked for anything yet."""
    fresh = Limiter()
    monkeypatch.setattr(limits, "limiter", fresh)
    monkeypatch.setattr(limits, "take", fresh.take)


def passes(limiter: Limiter, limit: Limit, tries: int) -> int:
    passed = 0
    for _ in range(tries):
        try:
            limiter.take([limit])
        except RateLimited:
            continue
        passed += 1
    return passed


def move(key: str, buckets: int) -> None:
    """Let the counted requests be older by so many buckets, and the processes forget what they know."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE webhook_rate_windows SET bucket = bucket - %s WHERE key = %s", [buckets, key])


def test_exactly_the_limit_passes():
    assert passes(Limiter(), Limit("k", 200, 60), 500) == 200


def test_processes_share_a_limit():
    processes = [Limiter() for _ in range(8)]
    limit = Limit("k", 2000, YEAR)

    passed = sum(passes(process, limit, 5) for _ in range(100) for process in processes)

    assert 1900 <= passed <= 2000


@pytest.mark.django_db(transaction=True)
def test_many_at_once_never_pass_more():
    limit, barrier, passed = Limit("k", 200, 60), threading.Barrier(8), []

    def run(process):
        barrier.wait()
        passed.append(passes(process, limit, 100))
        connection.close()

    threads = [threading.Thread(target=run, args=[Limiter()]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 190 <= sum(passed) <= 200


def take_in_a_process(number, gate, results):
    gate.wait()
    results.put(passes(Limiter(), Limit("k", 200, 60), 100))
    connection.close()


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_eight_processes_never_pass_more():
    connection.close()  # what is forked must not share it
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(8), context.Queue()
    processes = [context.Process(target=take_in_a_process, args=[number, gate, results]) for number in range(8)]
    for process in processes:
        process.start()
    passed = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(10)

    assert 190 <= sum(passed) <= 200


@pytest.mark.django_db(transaction=True)
def test_threads_of_one_process_share_what_it_was_given():
    limiter, limit, passed = Limiter(), Limit("k", 3000, YEAR), []

    def run():
        passed.append(passes(limiter, limit, 1000))
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 2900 <= sum(passed) <= 3000


def test_what_has_passed_counts_for_a_whole_period_and_no_longer():
    limit = Limit("k", 100, YEAR)
    assert passes(Limiter(), limit, 150) == 100

    move("k", BUCKETS)
    assert passes(Limiter(), limit, 150) == 0

    move("k", 1)
    assert passes(Limiter(), limit, 150) == 100


def test_room_comes_back_bucket_by_bucket():
    limit = Limit("k", 100, YEAR)
    passes(Limiter(), limit, 60)
    move("k", 30)
    passes(Limiter(), limit, 40)
    assert passes(Limiter(), limit, 50) == 0

    move("k", 12)

    assert passes(Limiter(), limit, 150) == 60


def test_the_time_to_come_again_is_right():
    limit = Limit("k", 100, 4000)
    passes(Limiter(), limit, 100)
    move("k", 30)

    with pytest.raises(RateLimited) as caught:
        Limiter().take([limit])

    # 30 of 41 buckets are over, of 100 s each, some part of the 31st, and what this test has taken.
    assert 1000 - 60 < caught.value.retry_after <= 1100


def test_a_clock_set_back_does_not_lock_out():
    limit = Limit("k", 100, 60)
    passes(Limiter(), limit, 100)

    move("k", -5)
    ahead = RateWindow.objects.get(key="k").bucket
    assert passes(Limiter(), limit, 10) == 0
    assert RateWindow.objects.get(key="k").bucket == ahead
    move("k", -BUCKETS * 60)
    assert passes(Limiter(), limit, 10) == 10


def test_another_period_starts_anew():
    passes(Limiter(), Limit("k", 10, 60), 20)

    assert passes(Limiter(), Limit("k", 10, 3600), 20) == 10


def test_a_lower_limit_counts_at_once_and_a_higher_one_too():
    passes(Limiter(), Limit("k", 100, 60), 50)

    assert passes(Limiter(), Limit("k", 10, 60), 5) == 0
    assert passes(Limiter(), Limit("k", 70, 60), 50) == 20


def test_a_request_counts_under_all_limits_or_under_none():
    small, large = Limit("small", 3, 60), Limit("large", 100, 60)
    limiter = Limiter()
    for _ in range(3):
        limiter.take([small, large])
    for _ in range(20):
        with pytest.raises(RateLimited) as caught:
            limiter.take([small, large])
        assert caught.value.limit == small

    assert passes(limiter, large, 200) == 97


def test_what_is_larger_than_the_limit_never_passes():
    with pytest.raises(RateLimited):
        Limiter().take([Limit("k", 10, 60, cost=11)])


def test_costs_add_up():
    limiter = Limiter()
    for _ in range(3):
        limiter.take([Limit("k", 100, 60, cost=30)])

    with pytest.raises(RateLimited):
        limiter.take([Limit("k", 100, 60, cost=30)])
    assert passes(Limiter(), Limit("k", 100, 60, cost=10), 5) == 1


def test_a_flood_costs_few_statements(django_assert_max_num_queries):
    limiter, limit = Limiter(), Limit("k", 10, 60)
    passes(limiter, limit, 10)

    with django_assert_max_num_queries(5):
        assert passes(limiter, limit, 5000) == 0

    assert RateWindow.objects.get(key="k").refused_count >= 1


def test_what_was_refused_last_is_noted_with_the_next_request_of_any_source():
    now = [1000.0]
    limiter, limit = Limiter(lambda: now[0]), Limit("k", 1, 60)
    assert passes(limiter, limit, 4) == 1
    assert RateWindow.objects.get(key="k").refused_count == 1

    now[0] += 1
    passes(limiter, Limit("other", 1, 60), 1)

    assert RateWindow.objects.get(key="k").refused_count == 3


def test_a_busy_limit_costs_few_statements(django_assert_max_num_queries):
    with django_assert_max_num_queries(60):
        assert passes(Limiter(), Limit("k", 60_000, 60), 2000) == 2000


def test_what_a_process_was_given_ends_with_its_bucket(django_assert_num_queries):
    now = [1000.0]
    limiter, limit = Limiter(lambda: now[0]), Limit("k", 1_000_000, 600)
    passes(limiter, limit, 100)
    with django_assert_num_queries(0):
        assert passes(limiter, limit, 1) == 1

    now[0] += limit.bucket_seconds

    with django_assert_num_queries(1):
        assert passes(limiter, limit, 1) == 1


def test_keys_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(limits, "MAX_REMEMBERED", 100)
    limiter = Limiter()

    for number in range(300):
        limiter.take([Limit(f"k{number}", 10, 60)])

    assert len(limiter._leases) <= 100
    assert passes(limiter, Limit("k0", 10, 60), 20) == 9


# --- which limits -----------------------------------------------------------------------------------------------------


def of(source, address="192.0.2.7"):
    return {limit.key: (limit.count, limit.period_seconds) for limit in limits_for(source, address)}


def test_a_source_an_address_and_the_lab_are_limited(settings):
    settings.INBOX_RATE_LIMIT = "100/minute"

    assert of(SourceFactory(name="shop")) == {
        "source:shop": (100, 60),
        "address:192.0.2.7/60": (100, 60),
        "all": (1000, 60),
    }
    assert of(Source(name="any"))["unknown"] == (100, 60)


def test_an_address_may_send_what_its_source_may_receive(settings):
    settings.INBOX_RATE_LIMIT = "100/minute"

    assert of(SourceFactory(rate_limit="5/second"))["address:192.0.2.7/1"] == (5, 1)
    assert of(SourceFactory(rate_limit="10/minute"))["address:192.0.2.7/60"] == (100, 60)


def test_no_limit_is_none(settings):
    settings.INBOX_RATE_LIMIT = "100/minute"
    assert list(of(SourceFactory(rate_limit="0"))) == ["all"]

    settings.INBOX_RATE_LIMIT = "0"
    assert of(SourceFactory()) == {}
    assert of(SourceFactory(name="own", rate_limit="5/second")) == {"source:own": (5, 1)}


@pytest.mark.parametrize("rate", ["300000000/minute", "999999999/day"])
def test_the_highest_rates_can_be_counted(client, settings, rate):
    settings.INBOX_RATE_LIMIT = rate

    assert client.post("/v1/webhooks/inbox/shop", {}, "application/json").status_code == 201


def test_an_ipv6_network_counts_as_one_address(settings):
    first, second, other = (
        list(of(Source(name="x"), address))[1] for address in ("2001:db8::1", "2001:db8::2:3", "2001:db8:0:1::1")
    )

    assert first == second == "address:2001:db8::/64/60"
    assert other != first


# --- receiving --------------------------------------------------------------------------------------------------------


def post(client, path=PATH, body=b"{}", **values):
    return client.post(path, body, "application/json", **values)


def test_too_many_are_answered_429_before_the_body_is_read(client):
    SourceFactory(name="shop", rate_limit="2/minute", max_body_bytes=100)
    for _ in range(2):
        assert post(client).status_code == 201

    response = post(client, body=b"x" * 1000)

    assert response.status_code == 429
    assert response["Content-Type"] == "application/problem+json"
    assert 1 <= int(response["Retry-After"]) <= 62
    assert response["RateLimit-Reset"] == response["Retry-After"]
    assert (response["RateLimit-Limit"], response["RateLimit-Remaining"]) == ("2", "0")
    assert Webhook.objects.count() == 2


def test_a_refused_source_leaves_the_others_alone(client):
    SourceFactory(name="shop", rate_limit="1/minute")
    SourceFactory(name="other")
    for _ in range(50):
        post(client)

    assert post(client, "/v1/webhooks/inbox/other").status_code == 201
    assert RateWindow.objects.get(key="all").count < 10


def test_unknown_names_share_one_limit(client, settings):
    settings.INBOX_RATE_LIMIT = "3/minute"

    answers = [
        post(client, f"/v1/webhooks/inbox/name-{number}", REMOTE_ADDR=f"192.0.2.{number}") for number in range(5)
    ]

    assert [answer.status_code for answer in answers] == [201, 201, 201, 429, 429]


def test_unknown_names_share_one_quota_of_bytes(client, monkeypatch):
    monkeypatch.setattr(limits, "UNKNOWN_KIB_PER_HOUR", 100)
    SourceFactory(name="shop")

    answers = [post(client, f"/v1/webhooks/inbox/name-{number}", b"x" * 40_000) for number in range(4)]

    assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
    assert post(client, body=b"x" * 40_000).status_code == 201


def test_the_proxy_tells_the_address(client, settings):
    settings.INBOX_RATE_LIMIT, settings.TRUSTED_PROXIES = "2/minute", "127.0.0.1/32"
    SourceFactory(name="shop")
    SourceFactory(name="other")

    def answer(name, address):
        return post(client, f"/v1/webhooks/inbox/{name}", headers={"X-Forwarded-For": address}).status_code

    assert [answer("shop", "198.51.100.1") for _ in range(2)] == [201, 201]
    assert [answer("other", "198.51.100.1"), answer("other", "198.51.100.2")] == [429, 201]


def test_the_api_shows_how_many_were_refused(client, api):
    SourceFactory(name="shop", rate_limit="1/minute")
    for _ in range(3):
        post(client)

    [shown] = api.get("/v1/webhooks/sources").json()["results"]

    assert shown["refused_count"] >= 1
    assert shown["last_refused_at"]
    assert api.get("/v1/webhooks/sources/shop").json()["refused_count"] == shown["refused_count"]


def test_refusals_beyond_what_can_be_counted_are_refusals_still(client):
    SourceFactory(name="shop", rate_limit="1/minute")
    post(client)
    RateWindow.objects.update(refused_count=2**31 - 1)

    assert [post(client).status_code for _ in range(2)] == [429, 429]
    assert RateWindow.objects.get(key="source:shop").refused_count == 2**31 - 1
