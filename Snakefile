# Not `include:`, which would leave the run without a default target.
workflow.include("workflow/Snakefile", overwrite_default_target=True)
