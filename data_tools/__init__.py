"""Raw Chinese text in; training shards of masked sentence-order samples out."""
