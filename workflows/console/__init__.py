"""How workflows and their runs look in the console."""
