"""How ``python -m engines compare`` measures the engines, each in processes of its own.

`served` is the side of an engine, `process` starts and ends it, `plain` says how long tasks take
without one, `measure` has what is asked of an engine, `metg` is the arithmetic, `words` and
`figure` show what was found.
"""
