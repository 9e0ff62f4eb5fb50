"""Generators, schedule, and what a rotation means."""
