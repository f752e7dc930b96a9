"""Watching a recorder from outside: counters over HTTP."""
