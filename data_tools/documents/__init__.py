"""Raw files become documents."""
