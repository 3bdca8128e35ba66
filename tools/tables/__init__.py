"""The paper's tables from datasets and weights: trace, score, report. The way in is :mod:`tools.tables.run`."""
