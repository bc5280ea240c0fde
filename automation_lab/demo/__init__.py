"""A believable lab of the last seven days, made up: senders, webhooks, tasks and workflows with history, API requests.

The same seed gives the same lab, placed before the given instant. Nothing in it sends anything: what points outside is
switched off, and every address is one of example.com.
"""

from automation_lab.demo.building import Occupied, empty, fill, is_empty

__all__ = ["Occupied", "empty", "fill", "is_empty"]
