"""One file a venue, found by discovery."""
