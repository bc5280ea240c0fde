"""When tasks run: schedules and their instants, slots, the ticker, backfill."""
