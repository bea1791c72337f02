//! A small readiness-based event loop: what `select()`, `socketserver` and Twisted's reactor are to Python.
