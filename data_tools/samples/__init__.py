"""Ids become masked sentence-order samples."""
