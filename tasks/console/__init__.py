"""How tasks look in the console."""
