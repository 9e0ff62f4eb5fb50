"""Real parts for tests: a Mosquitto, the daemon as a process, HTTP to the byte, a listener on the bus."""
