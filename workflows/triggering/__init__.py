"""How runs come about: webhooks, schedules, events, replays, and their answers."""
