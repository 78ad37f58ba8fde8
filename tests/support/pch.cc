// Exists to carry the precompiled header that all tests use.
