"""Rows: SQL engine, tables and migrations."""
