"""Black-box tests: real daemon processes, a real Mosquitto, only what the contracts promise."""
