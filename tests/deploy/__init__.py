"""Containers, systemd and the installer, for real. Marked `deploy`: they need Docker or root, and minutes."""
