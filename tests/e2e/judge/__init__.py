"""The judge: compares a source database with lake tables, value by value, through foreign readers.

A source (`postgres`, `mysql`) brings tables of canonical text; a lake (`iceberg`, `delta`) names its
tables and the readers that may look at them; `kinds` brings a reader's columns to the same text.
"""
