"""Documents become ids, sentence starts and word starts."""
