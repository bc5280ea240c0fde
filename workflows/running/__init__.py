"""One run of a workflow: the engine that decides the next step, what it sees, and what it puts on record."""
