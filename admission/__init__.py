"""The nouns of an admission review and its one verb, ``pipeline.review``.

Nothing here does I/O or looks at a clock: facts come in through ``ReviewContext``.
"""
