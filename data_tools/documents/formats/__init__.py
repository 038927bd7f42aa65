"""One reader a format: a stream of UTF-8 becomes documents, and a Rejected for each record that cannot."""
