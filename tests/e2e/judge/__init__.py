"""The judge: compares a PostgreSQL source with lake tables, value by value, through foreign readers."""
