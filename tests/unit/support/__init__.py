"""What the unit tests of the daemon's core share: a clock to move, a disk that fails, a core on temporary files."""
