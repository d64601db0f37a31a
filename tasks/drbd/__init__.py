"""DRBD: what its commands tell."""
