"""Pages that show what runs have come to."""
