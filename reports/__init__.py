"""The report: figures, sections and templates; reads Profile and Run objects, never the store."""
