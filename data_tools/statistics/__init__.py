"""What a folder of shards holds: counted in one pass, as tables and as plots."""
