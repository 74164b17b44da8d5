"""Requests out of a database and into one, as CSV, JSON lines or Parquet."""
