"""Corpora, audio sources, ledgers, shards, feature stores and coverage."""
