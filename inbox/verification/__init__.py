"""Who sent a request, judged on its raw bytes: `judge.verify` is what others call."""

from inbox.verification.results import Verdict, Verification

__all__ = ["Verdict", "Verification"]
