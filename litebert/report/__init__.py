"""What came of runs, on a page."""
