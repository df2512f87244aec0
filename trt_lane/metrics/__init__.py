"""Scorers: exact twins of the official ones, plus what needs no labels."""
