"""Options of the scripts: typed dataclasses with the paper's defaults, and a preset per dataset."""
