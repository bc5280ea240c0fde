"""The page of a source in the console: its form, what it says, and what it lets whom do."""

from __future__ import annotations

import re
import shlex
from datetime import datetime, timedelta
from itertools import pairwise
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from automation_lab.core import crypto
from automation_lab.core.exceptions import Invalid
from inbox.console import source_page, words
from inbox.console.quick_test import quick_test
from inbox.incoming import IncomingRequest
from inbox.models import RateWindow, Source
from inbox.presets import PRESETS
from inbox.replaying.signing_requests import current_secret
from inbox.secrets import verify_tokens
from inbox.services import create_source
from inbox.tests.factories import SourceFactory, WebhookFactory
from inbox.tests.signed_requests import ADYEN_KEY, SECRET, WHSEC
from inbox.verification import judge

BACKEND = "django.contrib.auth.backends.ModelBackend"
CONFIRMED = {"_form_submitted": "True"}
ADDRESS = "https://lab.example.com/v1/webhooks/inbox/shop"
MAX_QUERIES = 12
SECRETS = {
    "standard_webhooks": WHSEC,
    "adyen": ADYEN_KEY,
    "onfleet": "0123456789abcdef" * 4,
    "basic": "user:canary-pw-1",
}
SHOW_THEIR_SECRET = ["token", "basic", "gitlab"]
SIGNED_ELSEWHERE = ["paypal", "sns", "sendgrid", "discord"]
SIGNED_HERE = [scheme for scheme in PRESETS if scheme not in ("none", *SHOW_THEIR_SECRET, *SIGNED_ELSEWHERE)]

pytestmark = pytest.mark.django_db


def page(name, *args):
    return reverse(f"admin:inbox_source_{name}", args=args)


def shown(client, source, **headers):
    return client.get(page("change", source.pk), headers=headers).content.decode()


def form_data(**changes):
    return {
        "name": "shop",
        "enabled": "on",
        "scheme": "github",
        "allowed_methods": "POST",
        "dedupe_by": "delivery_id",
        "response": "{}",
        **changes,
    }


def errors(response):
    return response.context["adminform"].form.errors


# --- the form ---------------------------------------------------------------------------------------------------------


def test_settings_and_rules_are_put_together_from_fields(console):
    data = form_data(
        scheme="hmac",
        set_header="X-Sign",
        set_algorithm="sha512",
        set_tolerance_seconds="60",
        set_timestamp_header="X-Time",
        rate_count="600",
        rate_period="hour",
        dedupe_by="json_path",
        dedupe_path="body.order.id",
        keep_days="30",
        keep_count="1000",
        allowed_addresses="192.0.2.0/24",
    )

    console.post(page("add"), data)

    source = Source.objects.get()
    assert source.scheme_settings == {
        "header": "X-Sign",
        "algorithm": "sha512",
        "tolerance_seconds": 60,
        "timestamp_header": "X-Time",
    }
    assert (source.rate_limit, source.retention) == ("600/hour", {"days": 30, "count": 1000})
    assert source.dedupe == {"by": "json_path", "path": "body.order.id"}
    assert source.allowed_addresses == ["192.0.2.0/24"]


def test_what_is_stored_is_taken_apart_and_an_unchanged_form_changes_nothing(console):
    source = create_source(
        name="shop",
        scheme="hmac",
        scheme_settings={"header": "X-Sign", "tolerance_seconds": 60, "timestamp_header": "X-Time"},
        rate_limit="600/hour",
        dedupe={"by": "body_hash", "window_seconds": 300},
        retention={"payload_days": 3},
        secrets=[{"value": SECRET}],
    )
    before = Source.objects.values().get()
    form = console.get(page("change", source.pk)).context["adminform"].form
    data = {name: form[name].value() for name in form.fields if form[name].value() not in (None, False)}

    console.post(page("change", source.pk), {**data, "allowed_methods": ",".join(source.allowed_methods)})

    after = Source.objects.values().get()
    assert (data["set_header"], data["rate_count"], data["dedupe_window"]) == ("X-Sign", "600", 300)
    assert {**after, "updated_at": None} == {**before, "updated_at": None}


def test_one_changed_part_keeps_the_others(console):
    source = create_source(
        name="shop", rate_limit="600/hour", dedupe={"by": "body_hash", "window_seconds": 300}, retention={"days": 3}
    )
    data = form_data(scheme="none", rate_count="700", rate_period="hour", dedupe_by="body_hash", dedupe_window="300")

    console.post(page("change", source.pk), {**data, "keep_days": "3"})

    source.refresh_from_db()
    assert (source.rate_limit, source.retention) == ("700/hour", {"days": 3})
    assert source.dedupe == {"by": "body_hash", "window_seconds": 300}


def test_settings_of_another_scheme_are_left_out(console):
    console.post(page("add"), form_data(scheme="github", set_header="X-Sign", set_tolerance_seconds="60"))

    assert Source.objects.get().scheme_settings == {}


def test_no_limit_is_a_choice(console):
    console.post(page("add"), form_data(rate_period="none"))

    assert Source.objects.get().rate_limit == "0"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dedupe_by": "json_path", "dedupe_path": "order id"}, "dedupe_path"),
        ({"dedupe_by": "body_hash", "dedupe_window": ""}, "dedupe_window"),
        ({"dedupe_by": "body_hash", "dedupe_window": "9999999"}, "dedupe_window"),
        ({"rate_count": "-1"}, "rate_count"),
        ({"keep_days": "0"}, "keep_days"),
        ({"keep_days": "99999"}, "keep_days"),
        ({"scheme": "hmac", "set_header": "not a header"}, "scheme"),
        ({"scheme": "hmac", "set_content": "{oops}"}, "scheme"),
        ({"scheme": "mailgun", "dedupe_by": "none"}, "dedupe_by"),
        ({"allowed_addresses": "everywhere"}, "allowed_addresses"),
        ({"response": '{"status": 302}'}, "response"),
        ({"name": "Bad Name"}, "name"),
        ({"event_type_from": "nowhere"}, "event_type_from"),
    ],
)
def test_a_fault_stands_at_its_field(console, changes, field):
    response = console.post(page("add"), form_data(**changes))

    assert response.status_code == 200
    assert field in errors(response)
    assert not Source.objects.exists()


def test_the_page_of_a_faulty_form_tells_of_the_source_as_it_is_stored(console):
    source = create_source(name="shop", scheme="github", secrets=[{"value": SECRET}])

    response = console.post(page("change", source.pk), form_data(dedupe_by="body_hash", dedupe_window=""))

    assert "dedupe_window" in errors(response)
    assert "A delivery id that came before makes a repetition" in response.content.decode()


def test_what_a_service_refuses_is_said_in_the_form_with_the_input_kept(console):
    source = create_source(name="shop", scheme="github", secrets=[{"value": f"{SECRET}-{n}"} for n in range(10)])

    response = console.post(
        page("change", source.pk),
        form_data(new_secret="the-secret-after-12", overlap_hours="24", description="typed with care"),
    )

    assert "at most 10 secrets" in str(errors(response))
    assert "typed with care" in response.content.decode()
    assert not LogEntry.objects.exists()


# --- another scheme ---------------------------------------------------------------------------------------------------


@pytest.fixture
def described(db):
    """A source whose signature is described by hand."""
    return create_source(
        name="shop",
        scheme="hmac",
        scheme_settings={"header": "X-Sign", "content": "shop:{body}"},
        secrets=[{"value": SECRET}],
    )


def described_form(**changes):
    return form_data(**{"scheme": "hmac", "set_header": "X-Sign", "set_content": "shop:{body}", **changes})


@pytest.mark.parametrize("scheme", ["github", "none", "stripe"])
def test_another_scheme_takes_its_own_settings_and_keeps_the_secret_it_can_use(console, described, scheme):
    console.post(page("change", described.pk), described_form(scheme=scheme))

    described.refresh_from_db()
    assert (described.scheme, described.scheme_settings) == (scheme, {})
    assert len(described.secrets) == 1


def test_another_scheme_needs_a_secret_that_it_can_use(console, described):
    response = console.post(page("change", described.pk), described_form(scheme="standard_webhooks"))

    assert "set it, too" in str(errors(response))
    assert Source.objects.get().scheme == "hmac"


def test_a_secret_that_the_new_scheme_cannot_use_ends_at_once(console, described):
    data = described_form(scheme="standard_webhooks", new_secret=WHSEC, overlap_hours="24")

    response = console.post(page("change", described.pk), data, follow=True)

    described.refresh_from_db()
    (secret,) = described.secrets
    assert described.scheme == "standard_webhooks"
    assert crypto.decrypt(secret["ciphertext"], bind="source:shop") == WHSEC
    assert "Secrets that the scheme cannot use were removed." in response.content.decode()


def test_a_scheme_without_secrets_removes_them(console, described):
    topic = "arn:aws:sns:eu-west-1:123456789012:orders"

    console.post(page("change", described.pk), described_form(scheme="sns", set_topics=topic))

    described.refresh_from_db()
    assert (described.scheme, described.secrets) == ("sns", [])
    assert described.scheme_settings == {"topics": [topic]}


def test_a_verify_token_is_set_with_the_secret_and_replaced_alone(console):
    console.post(page("add"), form_data(scheme="meta", new_secret=SECRET, verify_token="canary-token-1"))
    source = Source.objects.get()
    before = source.secrets

    console.post(page("change", source.pk), form_data(scheme="meta", verify_token="canary-token-2"))

    source.refresh_from_db()
    assert [secret["use"] for secret in before] == ["signature", "verify_token"]
    assert source.secrets[0]["ciphertext"] == before[0]["ciphertext"]
    assert [secret.value for secret in verify_tokens(source)] == ["canary-token-2"]
    assert "canary-token" not in shown(console, source)


def test_a_verify_token_goes_with_its_scheme(console):
    source = create_source(
        name="shop", scheme="meta", secrets=[{"value": SECRET}, {"value": "canary-token-1", "use": "verify_token"}]
    )

    console.post(page("change", source.pk), form_data(scheme="github", verify_token="left-in-a-hidden-field"))

    source.refresh_from_db()
    assert [secret["use"] for secret in source.secrets] == ["signature"]


# --- what the page says -----------------------------------------------------------------------------------------------


def test_the_address_is_where_the_console_was_reached_or_the_public_one(console, settings):
    source = SourceFactory(name="shop")

    local = shown(console, source, host="lab.example.com")
    settings.PUBLIC_URL = "https://hooks.example.com"
    public = shown(console, source)

    assert "http://lab.example.com/v1/webhooks/inbox/shop" in local
    assert "https://hooks.example.com/v1/webhooks/inbox/shop" in public


@pytest.mark.parametrize("scheme", list(PRESETS))
def test_every_scheme_has_a_name_and_sentences(scheme):
    lines = words.scheme_lines(scheme, {})

    assert words.scheme_name(scheme)
    assert all(line[0].isupper() or ":" in line for line in lines)
    assert not any("{" in line or "None" in line for line in lines)


def test_a_scheme_says_header_and_content():
    assert "X-Hub-Signature-256: sha256=HMAC-SHA256 of the body in hex." in words.scheme_lines("github", {})
    assert "X-Slack-Signature: v0=HMAC-SHA256 of v0:timestamp:body in hex." in words.scheme_lines("slack", {})


def test_a_signed_address_that_is_not_known_is_marked_until_it_is_set(console, settings):
    source = create_source(name="shop", scheme="twilio", secrets=[{"value": SECRET}])
    alert = "every request is refused until PUBLIC_URL is set"

    unknown = shown(console, source)
    settings.PUBLIC_URL = "https://lab.example.com"
    public = shown(console, source)
    settings.PUBLIC_URL = ""
    Source.objects.update(scheme_settings={"url": "https://shop.example.com/hooks"})
    named = shown(console, source)

    assert alert in unknown
    assert alert not in public
    assert alert not in named
    assert "give the sender exactly https://shop.example.com/hooks" in named


def test_an_open_source_is_marked_until_somebody_confirms_it(console):
    source = SourceFactory(scheme="none")

    before = shown(console, source)
    console.post(page("confirm_open", source.pk), CONFIRMED)
    after = shown(console, source)

    assert "Anybody who knows this address may send" in before
    assert "Anybody who knows this address may send" not in after
    assert "open, confirmed" in after
    assert LogEntry.objects.get().get_change_message() == "Confirmed: anybody may send."


def test_a_confirmation_can_be_withdrawn(console):
    source = SourceFactory(scheme="none", open_confirmed=True)

    console.post(page("withdraw_open", source.pk), CONFIRMED)

    source.refresh_from_db()
    assert not source.open_confirmed


def test_secrets_are_told_by_their_ends_and_times_only(console):
    now = timezone.now()
    source = create_source(
        name="shop",
        scheme="github",
        secrets=[
            {"value": "canary-secret-number-new"},
            {"value": "canary-secret-number-old", "expires_at": now + timedelta(hours=5)},
            {"value": "canary-secret-number-sen", "expires_at": now - timedelta(days=5)},
        ],
    )
    WebhookFactory(source="shop", matched_secret=source.secrets[1]["id"], verification="verified")

    html = shown(console, source)

    assert "canary-secret" not in html
    assert "…-new" in html
    assert "set today" in html
    assert re.search("ends soon.*…-old.*valid until.*last matched", html, re.DOTALL)
    assert re.search("expired.*…-sen", html, re.DOTALL)


def test_limits_and_what_passed_are_shown(console):
    source = SourceFactory(name="shop", rate_limit="1200/hour", max_body_bytes=5000)
    RateWindow.objects.create(
        key="source:shop",
        window_at=timezone.now(),
        period_seconds=3600,
        max_count=1200,
        count=1100,
        refused_count=56,
        refused_at=timezone.now(),
    )

    html = shown(console, source)
    listed = console.get(page("changelist")).content.decode()

    assert "At most 1,200 an hour." in html
    assert "5.0\u00a0kB" in html
    assert "1,100 of 1,200 within 1 hour" in html
    assert "56 refused as too many" in html
    assert ">56</span>" in listed


def test_the_last_days_are_counted_by_kind(console):
    source = SourceFactory(name="shop")
    now = timezone.now().replace(hour=12)
    for days, values in ((0, {}), (0, {"status": "rejected"}), (1, {"is_duplicate": True}), (6, {}), (9, {})):
        WebhookFactory(source="shop", received_at=now - timedelta(days=days), **values)
    WebhookFactory(source="other", received_at=now)

    days = source_page.last_days(source, now)

    assert [day.counts for day in days] == [
        {"accepted": 1}, {}, {}, {}, {}, {"repetition": 1}, {"accepted": 1, "rejected": 1},
    ]  # fmt: skip
    assert days[-1].bars == [("accepted", 1, 50.0), ("rejected", 1, 50.0)]


def test_the_last_ones_are_dots_with_words(console):
    source = SourceFactory(name="shop")
    rejected = WebhookFactory(source="shop", status="rejected", event_type="<b>&\"'")

    html = shown(console, source)

    assert re.search(rf'class="lab-dot lab-bad" href="[^"]*/{rejected.pk}/change/"', html)
    assert f"#{rejected.pk} {escape(rejected.event_type)}: rejected" in html


def test_the_page_is_cheap_with_many_webhooks(console, django_assert_max_num_queries):
    source = create_source(name="shop", scheme="github", secrets=[{"value": SECRET}])
    WebhookFactory.create_batch(60, source="shop", duplicate_count=1)

    with django_assert_max_num_queries(MAX_QUERIES):
        console.get(page("change", source.pk))


def test_nothing_yet_teaches_the_next_step(console):
    assert "Send the command of “Signed test” above" in shown(console, SourceFactory())
    Source.objects.all().delete()
    assert "A source says who may send under a name" in console.get(page("changelist")).content.decode()


# --- a new secret -----------------------------------------------------------------------------------------------------


def test_a_new_secret_keeps_the_old_one_for_a_day(console):
    source = create_source(name="shop", scheme="github", secrets=[{"value": "the-secret-before-1"}])

    response = console.post(
        page("rotate_secret", source.pk), {**CONFIRMED, "new_secret": "the-secret-after-12", "keep_hours": "24"}
    )

    new, old = Source.objects.get().secrets
    assert response.status_code == 302
    assert crypto.decrypt(new["ciphertext"], bind="source:shop") == "the-secret-after-12"
    assert (new["expires_at"], old["id"]) == (None, source.secrets[0]["id"])
    assert timedelta(hours=23) < datetime.fromisoformat(old["expires_at"]) - timezone.now() < timedelta(hours=25)
    assert "the-secret" not in LogEntry.objects.get().change_message


def test_a_new_secret_and_its_audit_line_are_written_together(console, failing_audit):
    source = create_source(name="shop", scheme="github", secrets=[{"value": "the-secret-before-1"}])

    with pytest.raises(ConnectionAbortedError):
        console.post(
            page("rotate_secret", source.pk), {**CONFIRMED, "new_secret": "the-secret-after-12", "keep_hours": "0"}
        )

    assert Source.objects.get().secrets == source.secrets


def test_a_new_secret_that_the_scheme_cannot_use_is_refused_in_the_dialog(console):
    source = create_source(name="shop", scheme="standard_webhooks", secrets=[{"value": WHSEC}])

    response = console.post(
        page("rotate_secret", source.pk), {**CONFIRMED, "new_secret": "canary!", "keep_hours": "24"}
    )

    assert "new_secret" in response.context["form"].errors
    assert b"canary!" not in response.content
    assert len(Source.objects.get().secrets) == 1


def test_a_new_secret_may_start_later_and_the_old_one_ends_with_it(console):
    source = create_source(name="shop", scheme="github", secrets=[{"value": "the-secret-before-1"}])
    starts_at = (timezone.now() + timedelta(days=3)).replace(microsecond=0)

    console.post(
        page("rotate_secret", source.pk),
        {
            **CONFIRMED,
            "new_secret": "the-secret-after-12",
            "starts_at": starts_at.strftime("%Y-%m-%dT%H:%M:%S"),
            "keep_hours": "0",
        },
    )

    new, old = Source.objects.get().secrets
    assert datetime.fromisoformat(new["starts_at"]) == starts_at
    assert datetime.fromisoformat(old["expires_at"]) == starts_at
    assert current_secret(Source.objects.get()) == "the-secret-before-1"


def test_one_secret_is_removed_by_its_ending(console):
    source = create_source(
        name="shop", scheme="github", secrets=[{"value": "canary-secret-new"}, {"value": "canary-secret-old"}]
    )
    leaving = source.secrets[1]["id"]

    asked = console.get(page("remove_secret", source.pk)).content.decode()
    console.post(page("remove_secret", source.pk), {**CONFIRMED, "secret": leaving})

    kept = Source.objects.get().secrets
    assert "ends …-new" in asked
    assert "canary-secret" not in asked
    assert [secret["id"] for secret in kept] == [source.secrets[0]["id"]]
    assert LogEntry.objects.get().get_change_message() == "Secret removed."


def test_an_unknown_secret_is_not_removed(console):
    source = create_source(name="shop", scheme="github", secrets=[{"value": SECRET}])

    response = console.post(page("remove_secret", source.pk), {**CONFIRMED, "secret": "ffffffff"})

    assert "secret" in response.context["form"].errors
    assert len(Source.objects.get().secrets) == 1


# --- the signed test --------------------------------------------------------------------------------------------------


def request_of(command):
    """What the shell command would send."""
    parts = shlex.split(command.replace("\\\n", " "))
    url = urlsplit(parts[3])
    headers = [part.split(": ", 1) for flag, part in pairwise(parts) if flag == "-H"]
    return IncomingRequest(
        method=parts[2],
        path=url.path,
        query_string=url.query,
        query_params=[list(pair) for pair in parse_qsl(url.query)],
        headers=headers,
        raw_body=parts[parts.index("--data-raw") + 1].encode(),
        remote_addr="192.0.2.1",
    )


def source_of(scheme):
    return create_source(name="shop", scheme=scheme, secrets=[{"value": SECRETS.get(scheme, SECRET)}])


@pytest.mark.parametrize("scheme", SIGNED_HERE)
def test_the_command_is_signed_so_that_the_source_accepts_it(scheme, settings):
    settings.PUBLIC_URL = "https://lab.example.com"
    source = source_of(scheme)

    made = quick_test(source, ADDRESS)

    assert judge.verify(source, request_of(made.command)).result == "verified"
    assert SECRETS.get(scheme, SECRET) not in made.command
    assert "signature belongs to exactly this body" in made.note


@pytest.mark.parametrize("scheme", ["twilio", "mandrill", "square"])
def test_without_a_known_address_the_command_says_what_to_set(scheme):
    with pytest.raises(Invalid, match="set PUBLIC_URL, or the signed address"):
        quick_test(source_of(scheme), ADDRESS)


@pytest.mark.parametrize("query", ["", "?a=1"])
@pytest.mark.parametrize("scheme", ["twilio", "mandrill", "square", "hubspot"])
def test_the_address_that_the_source_names_is_signed(scheme, query):
    source = create_source(
        name="shop",
        scheme=scheme,
        scheme_settings={"url": f"https://shop.example.com/hooks{query}"},
        secrets=[{"value": SECRET}],
    )

    made = quick_test(source, ADDRESS)

    assert ADDRESS in made.command
    assert judge.verify(source, request_of(made.command)).result == "verified"


def test_user_and_password_are_put_in_by_curl():
    command = quick_test(source_of("basic"), ADDRESS).command

    assert shlex.split(command.replace("\\\n", " "))[4:6] == ["-u", "YOUR-SECRET"]
    assert "Authorization" not in command


@pytest.mark.parametrize("scheme", SHOW_THEIR_SECRET)
def test_a_scheme_whose_sender_shows_the_secret_gets_a_placeholder(scheme):
    made = quick_test(source_of(scheme), ADDRESS)

    assert "YOUR-SECRET" in made.command
    assert SECRETS.get(scheme, SECRET) not in made.command + made.note


def test_an_open_source_gets_an_unsigned_command():
    assert "-H 'Content-Type: application/json'" in quick_test(SourceFactory(scheme="none"), ADDRESS).command


def test_the_command_is_made_only_when_asked_for(console):
    source = source_of("github")

    looked = console.get(page("quick_test", source.pk))
    made = console.post(page("quick_test", source.pk), CONFIRMED)

    assert b"X-Hub-Signature-256" not in looked.content
    assert b"X-Hub-Signature-256: sha256=" in made.content
    assert SECRET.encode() not in made.content
    assert "no-store" in made["Cache-Control"]
    assert "curl -X" not in shown(console, source)


def test_why_no_command_can_be_made_is_said(console):
    source = SourceFactory(scheme="github")

    response = console.post(page("quick_test", source.pk), CONFIRMED)

    assert "The source has no secret that is valid now" in response.content.decode()


# --- who may ----------------------------------------------------------------------------------------------------------


def test_a_viewer_sees_the_page_and_can_do_nothing_on_it(viewer):
    source = create_source(name="shop", scheme="none", rate_limit="7/hour")

    html = shown(viewer, source)

    assert "/v1/webhooks/inbox/shop" in html
    assert "At most 7 an hour." in html
    assert "Keep the newest" not in html
    for name in ("quick_test", "rotate_secret", "remove_secret", "confirm_open", "withdraw_open"):
        assert viewer.post(page(name, source.pk), CONFIRMED).status_code == 403, name
        assert page(name, source.pk) not in html
    source.refresh_from_db()
    assert not source.open_confirmed


def test_looking_at_the_dialogs_changes_nothing(console):
    source = source_of("github")
    before = Source.objects.values().get()

    for name in ("quick_test", "rotate_secret", "remove_secret", "confirm_open", "withdraw_open", "change"):
        assert console.get(page(name, source.pk)).status_code == 200

    assert Source.objects.values().get() == before
    assert not LogEntry.objects.exists()


def test_what_a_sender_or_an_editor_wrote_is_escaped(console):
    canary = "<script>alert(1)</script>"
    source = SourceFactory(name="shop", description=canary, dedupe={"by": "json_path", "path": f"body.{canary}"})
    WebhookFactory(source="shop", event_type=canary, method=canary[:16])

    assert "<script>alert" not in shown(console, source)
    assert "<script>alert" not in console.get(page("changelist")).content.decode()
