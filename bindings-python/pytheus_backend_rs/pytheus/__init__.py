"""The adapter for pytheus: backend classes that pytheus loads, and scrapes of its registries.

The rest of the package knows no client library. `internals` is the only module that reads private names of
pytheus.

pytheus imports this package while it is half imported itself (`PYTHEUS_BACKEND_CLASS`), so no module here
imports pytheus at module level.
"""
