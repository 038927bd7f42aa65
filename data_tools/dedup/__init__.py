"""What a corpus says twice, and what it must not say: duplicates and evaluation text, found in bounded memory."""
