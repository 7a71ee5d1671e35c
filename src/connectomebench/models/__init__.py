"""Models that answer batches of stored rows; all follow the protocol in :mod:`.base`."""
