"""The chained, signed log: written, read back, recovered, verified offline."""
