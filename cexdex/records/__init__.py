"""Every record type, declared once. Import a record from its own module; see `record.py` for the rules."""
