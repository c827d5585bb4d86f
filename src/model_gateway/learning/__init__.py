"""Fits and measures routing models from labelled queries. Needs the extra `routing`; never imported while serving."""
