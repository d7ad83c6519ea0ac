"""The vendors' adapters and their registry."""
