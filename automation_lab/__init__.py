"""The project: wiring, commands, and the plumbing that the four apps share."""

VERSION = "0.1.0"
