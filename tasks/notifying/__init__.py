"""Messages about runs: channels, what is told to which, and how it is sent."""
