"""Backups of a vault that goes on serving, and the way back (docs/backup.md). All of it blocks."""
