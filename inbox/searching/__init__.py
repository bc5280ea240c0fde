"""Finding webhooks: by conditions, by text, by saved views, and selections of them."""
