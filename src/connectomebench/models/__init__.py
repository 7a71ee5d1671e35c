"""Models that answer a batch of stored rows with probabilities; all of them share the protocol in :mod:`.base`."""
