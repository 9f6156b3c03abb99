"""This system around the package: files, the cache, other programs, Debian packages."""
