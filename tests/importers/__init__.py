"""Exports loaded by the tools they are for: ``make test-importers`` (not part of ``make test``)."""
