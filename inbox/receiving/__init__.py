"""From a request to a stored webhook: limits, handshakes, repetitions, refusals."""
