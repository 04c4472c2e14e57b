"""What comes in: a venue's frames, from a socket or a recording, become records in a ring."""
