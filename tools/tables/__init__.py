"""The paper's tables from datasets and weights: trace, score, report. :mod:`tools.tables.run` is the entry point."""
