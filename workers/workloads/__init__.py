"""Which requests, how long, when they arrive, how they are batched, and their latencies."""
