"""What the demo's senders send: bodies and headers made up in the shape of each, signed as that sender signs."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from automation_lab.core.safe_json import dump
from automation_lab.core.signing import sign_standard_webhook
from automation_lab.demo.chance import Chance

Pairs = list[list[str]]
Body = dict[str, Any]
PEOPLE = ("kim", "alex", "sam", "robin", "toni")
REPOSITORIES = ("example/shop", "example/shop-api", "example/labels")
BRANCHES = ("main", "main", "main", "fix-rounding", "new-checkout")
CHANGES = (
    "Round totals to whole cents",
    "Show the stock again",
    "Update packages",
    "Speed up the search",
    "Fix a typo",
)
GOODS = (("Tea pot", 34.5), ("Cup", 9.9), ("Green tea, 250 g", 12.0), ("Strainer", 6.4), ("Tea tin", 14.0))


@dataclass(frozen=True)
class Event:
    """One kind of event of a sender: how often it comes beside the others, and its body."""

    source: str
    type: str
    weight: float
    body: Callable[[Chance, datetime], Body]


def _commit(chance: Chance, at: datetime) -> Body:
    person = chance.choice(PEOPLE)
    return {
        "id": chance.hex(40),
        "message": chance.choice(CHANGES),
        "timestamp": at.isoformat(timespec="seconds"),
        "author": {"name": person.title(), "email": f"{person}@example.com", "username": person},
        "modified": [f"shop/{name}.py" for name in chance.sample(("cart", "checkout", "search", "stock", "totals"), 2)],
    }


def push(chance: Chance, at: datetime) -> Body:
    commits = [_commit(chance, at) for _ in range(chance.randint(1, 6))]
    person = chance.choice(PEOPLE)
    return {
        "ref": f"refs/heads/{chance.choice(BRANCHES)}",
        "before": chance.hex(40),
        "after": commits[-1]["id"],
        "repository": {"full_name": chance.choice(REPOSITORIES), "private": True, "default_branch": "main"},
        "pusher": {"name": person, "email": f"{person}@example.com"},
        "commits": commits,
    }


def pull_request(chance: Chance, at: datetime) -> Body:
    return {
        "action": chance.choice(("opened", "synchronize", "closed")),
        "number": chance.randint(100, 480),
        "pull_request": {"title": chance.choice(CHANGES), "user": {"login": chance.choice(PEOPLE)}, "draft": False},
        "repository": {"full_name": chance.choice(REPOSITORIES)},
    }


def release(chance: Chance, at: datetime) -> Body:
    tag = f"v{chance.randint(1, 4)}.{chance.randint(0, 20)}.{chance.randint(0, 9)}"
    return {
        "action": "published",
        "release": {"tag_name": tag, "draft": False, "prerelease": False},
        "repository": {"full_name": chance.choice(REPOSITORIES)},
    }


def _stripe(kind: str, fields: Callable[[Chance], Body]) -> Callable[[Chance, datetime], Body]:
    def body(chance: Chance, at: datetime) -> Body:
        return {
            "id": f"evt_{chance.hex(24)}",
            "object": "event",
            "type": kind,
            "created": int(at.timestamp()),
            "livemode": False,
            "data": {"object": {"currency": "eur", "customer": f"cus_{chance.hex(14)}", **fields(chance)}},
        }

    return body


def _payment(chance: Chance) -> Body:
    return {"id": f"pi_{chance.hex(24)}", "amount": chance.randrange(990, 64_000, 10), "status": "succeeded"}


def _invoice(chance: Chance) -> Body:
    return {"id": f"in_{chance.hex(24)}", "amount_paid": chance.randrange(4_900, 90_000, 100), "status": "paid"}


def _refund(chance: Chance) -> Body:
    amount = chance.randrange(990, 64_000, 10)
    return {"id": f"ch_{chance.hex(24)}", "amount": amount, "amount_refunded": amount, "refunded": True}


def order(chance: Chance, at: datetime) -> Body:
    goods = chance.sample(GOODS, chance.randint(1, 4))
    items = [{"name": name, "price": price, "quantity": chance.randint(1, 3)} for name, price in goods]
    return {
        "type": "order.created",
        "timestamp": at.isoformat(timespec="seconds"),
        "data": {
            "number": f"{chance.randrange(10**6):06}",
            "customer": {"name": "A customer", "email": f"customer{chance.randint(1, 900)}@example.com"},
            "items": items,
            "total": round(sum(float(str(item["price"])) * int(str(item["quantity"])) for item in items), 2),
            "currency": "EUR",
        },
    }


def _shop(kind: str) -> Callable[[Chance, datetime], Body]:
    def body(chance: Chance, at: datetime) -> Body:
        data = {"number": f"{chance.randrange(10**6):06}", "carrier": chance.choice(("Post", "Courier"))}
        return {"type": kind, "timestamp": at.isoformat(timespec="seconds"), "data": data}

    return body


def _incident(kind: str) -> Callable[[Chance, datetime], Body]:
    def body(chance: Chance, at: datetime) -> Body:
        part = chance.choice(("checkout", "search", "mail", "database"))
        return {
            "event": kind,
            "incident": {"id": chance.randint(1, 99), "part": part, "severity": chance.randint(1, 4)},
        }

    return body


def sign_up(chance: Chance, at: datetime) -> Body:
    return {"event": "subscribed", "email": f"reader{chance.randint(1, 5_000)}@example.com", "list": "monthly"}


EVENTS = (
    Event("github", "push", 26, push),
    Event("github", "pull_request", 11, pull_request),
    Event("github", "release", 2, release),
    Event("stripe", "payment_intent.succeeded", 15, _stripe("payment_intent.succeeded", _payment)),
    Event("stripe", "invoice.paid", 4, _stripe("invoice.paid", _invoice)),
    Event("stripe", "charge.refunded", 5, _stripe("charge.refunded", _refund)),
    Event("shop", "order.created", 20, order),
    Event("shop", "order.shipped", 8, _shop("order.shipped")),
    Event("status-page", "incident.opened", 2, _incident("incident.opened")),
    Event("status-page", "incident.resolved", 2, _incident("incident.resolved")),
    Event("newsletter", "subscribed", 5, sign_up),
)


@dataclass(frozen=True)
class Sent:
    """A request as it arrives."""

    headers: Pairs
    raw_body: bytes
    delivery_id: str


def send(event: Event, body: Body, chance: Chance, at: datetime, secret: str) -> Sent:
    raw = dump(body).encode()
    agent, extra, delivery_id = SIGNERS[event.source](event, body, raw, chance, at, secret)
    common = [["Host", "lab.example.com"], ["User-Agent", agent], ["Content-Type", "application/json"]]
    return Sent([*common, *extra, ["Content-Length", str(len(raw))]], raw, delivery_id)


Signer = Callable[[Event, Body, bytes, Chance, datetime, str], tuple[str, Pairs, str]]
"""Gives the user agent, the sender's own headers and the delivery id."""


def _as_github(
    event: Event, body: Body, raw: bytes, chance: Chance, at: datetime, secret: str
) -> tuple[str, Pairs, str]:
    digits = chance.hex(32)
    delivery = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    signature = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    headers = [
        ["X-Github-Event", event.type],
        ["X-Github-Delivery", delivery],
        ["X-Hub-Signature-256", f"sha256={signature}"],
    ]
    return "GitHub-Hookshot/demo", headers, delivery


def _as_stripe(
    event: Event, body: Body, raw: bytes, chance: Chance, at: datetime, secret: str
) -> tuple[str, Pairs, str]:
    seconds = int(at.timestamp())
    signature = hmac.new(secret.encode(), f"{seconds}.".encode() + raw, hashlib.sha256).hexdigest()
    return "Stripe/1.0", [["Stripe-Signature", f"t={seconds},v1={signature}"]], body["id"]


def _as_shop(event: Event, body: Body, raw: bytes, chance: Chance, at: datetime, secret: str) -> tuple[str, Pairs, str]:
    message_id = f"msg_{base64.b32encode(chance.randbytes(15)).decode().lower()}"
    signed = sign_standard_webhook(secret, message_id, int(at.timestamp()), raw)
    return "Shop/4.2", [[name.title(), value] for name, value in signed.items()], message_id


def _as_status_page(
    event: Event, body: Body, raw: bytes, chance: Chance, at: datetime, secret: str
) -> tuple[str, Pairs, str]:
    return "StatusPage/2", [["X-Status-Token", secret]], ""


def _as_newsletter(
    event: Event, body: Body, raw: bytes, chance: Chance, at: datetime, secret: str
) -> tuple[str, Pairs, str]:
    return "Mozilla/5.0 (form)", [], ""


SIGNERS: dict[str, Signer] = {
    "github": _as_github,
    "stripe": _as_stripe,
    "shop": _as_shop,
    "status-page": _as_status_page,
    "newsletter": _as_newsletter,
}
