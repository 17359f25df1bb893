# `snakemake results -c2 -R results && snakemake results --report study.html`: DVC manages the results, so Snakemake's
# report uses copies. The rule exists only for a pipeline with these stages.
_SHOWN = {
    "ship": ("results/tables/ship.csv", "What to ship"),
    "findings": ("results/tables/findings.csv", "The paper's findings"),
    "table1": ("results/tables/table1.csv", "Sizes (table 1)"),
    "table2": ("results/tables/table2.csv", "Fine-tuning (table 2)"),
    "figure3": ("results/figures/figure3.png", "Accuracy over size (figure 3)"),
    "page": ("results/report.html", "The study on one page"),
}

if {"tables", "report"} <= PLAN["stages"].keys():

    rule results:
        input:
            [PLAN["stages"][name]["stamp"] for name in ("tables", "report")],
        output:
            **{
                name: report(
                    plan.HOME / "shown" / Path(path).name,
                    caption=f"../report/{name}.rst",
                    category="Results",
                    labels={"": title},
                )
                for name, (path, title) in _SHOWN.items()
            },
        log:
            "logs/results.log",
        localrule: True
        conda:
            "../envs/audionas.yaml"
        params:
            results=[path for path, _ in _SHOWN.values()],
            copies=lambda wildcards, output: Path(output[0]).parent,
        message:
            "Results for snakemake --report"
        shell:
            "cp --verbose --target-directory={params.copies:q} {params.results:q} > {log:q} 2>&1"
