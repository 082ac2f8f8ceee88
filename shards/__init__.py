"""The on-disk contract shared by the builder and the reader (see docs/format.md)."""
