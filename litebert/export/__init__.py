"""A trained model leaves the house."""
