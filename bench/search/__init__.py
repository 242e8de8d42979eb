"""The search for the generator's settings: resumable, and every trial ends in a table."""
