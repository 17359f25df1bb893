# `include:` would not set the default target.
workflow.include("workflow/Snakefile", overwrite_default_target=True)
