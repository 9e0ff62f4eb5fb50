"""Test vectors: JSON files that any implementation can be held to, and the generator that reproduces them."""
