"""The verbs of ``python -m data_tools``: one file each, with its ``arguments`` and what it does, ``run``."""
