"""Programs that tasks may run because the server declares them."""
