"""What `make run` shows: a daemon, a broker and a live client, all of them the real thing."""
