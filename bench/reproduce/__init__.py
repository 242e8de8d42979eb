"""The table of record: every row trained and evaluated by one command."""
