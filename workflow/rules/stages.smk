# One rule per stage. Stamps replace the real outputs, which DVC manages. They only define the order, so their age is
# ignored (ancient). A stage that must run has no stamp; see plan.py.
for _name, _stage in PLAN["stages"].items():

    rule:
        name:
            _stage["rule"]
        input:
            [ancient(PLAN["stages"][needed]["stamp"]) for needed in _stage["needs"]],
        output:
            touch(_stage["stamp"]),
        log:
            f"logs/{_stage['rule']}.log",
        retries: _stage["retries"]
        conda:
            "../envs/audionas.yaml"
        threads: _stage["threads"]
        resources:
            mem_mb=_stage["mem_mb"],
            runtime=_stage["runtime"],
            gpu=_stage["gpus"],
            nodes=1,
        params:
            stage=_name,
        message:
            "DVC stage {params.stage}"
        shell:
            "AUDIONAS_WORKERS={threads} python workflow/plan.py run {params.stage:q} {log:q} {resources.runtime}"
