"""New webhooks as they come: served as a stream, and followed from another machine."""
