"""Which samples, when, on which rank; and the samples themselves."""
