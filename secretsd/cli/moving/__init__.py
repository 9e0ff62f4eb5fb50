"""Moving in: from a .env file to secrets, and back. What decides is pure; the commands are in `secretsd.cli`."""
