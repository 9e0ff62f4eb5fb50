"""jarvis-secretsd: the daemon and its operator's command."""
