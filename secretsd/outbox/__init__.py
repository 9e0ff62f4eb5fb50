"""From the audit log to the bus: lanes, cursor, acknowledgements."""
