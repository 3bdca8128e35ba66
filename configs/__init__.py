"""Options of the scripts: dataclasses with the paper's defaults, a preset per dataset, and checks of the values."""
