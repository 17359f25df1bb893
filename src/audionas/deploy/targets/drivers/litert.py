"""Convert a program to LiteRT, quantize it, run it, and measure memory; see `deploy/targets/litert.py`.

Usage: python -I litert.py FOLDER. Runs in `.deploy/litert`. Reads from the folder job.json, program.pt2,
inputs.npz and, for int8, calibration.npz. Writes model.tflite, outputs.npz and report.json. If job.json names
an existing model, it is only run.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

SIGNATURE = "serving_default"
#: Arm's reference systems: accelerator, system and memory mode of Vela's own configuration file.
NPUS = {
    "ethos-u55-128": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65-256": ("Ethos_U65_High_End", "Dedicated_Sram"),
}
ARENA_LIMIT = 64 << 20  # bytes


def convert(program: Path, name: str, model: Path) -> None:
    """Convert a program to a model in float32.

    Args:
        program: of `torch.export`.
        name: of its input.
        model: the file to write.
    """
    import litert_torch
    import torch

    loaded = torch.export.load(program)
    (shape,) = (tuple(node.meta["val"].shape) for node in loaded.graph.nodes if node.name == name)
    converted = litert_torch.convert(loaded.module(), sample_kwargs={name: torch.zeros(shape)})
    converted.export(str(model))


def quantize(folder: Path, job: dict) -> None:
    """Quantize float.tflite to model.tflite: int8 activations, and int8 weights per channel.

    Ranges come from calibrated.pt2, the network without its front end, whose tensors have the same names.
    Operators of scopes that match `job["float"]` keep float32. So do the input and output of such a model.
    """
    from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    if job["calibrated"] == job["input"]:
        shutil.copyfile(folder / "float.tflite", folder / "calibrated.tflite")
    else:
        convert(folder / "calibrated.pt2", job["calibrated"], folder / "calibrated.tflite")
    rules = recipe.static_wi8_ai8()
    recipes = recipe_manager.RecipeManager()
    recipes.load_quantization_recipe(rules)
    with np.load(folder / "calibration.npz") as arrays:
        clips = [{job["calibrated"]: clip[None]} for clip in arrays["inputs"]]
    # The quantizer's own method takes moving averages of the ranges, which cut off the values of most clips.
    ranges = calibrator.Calibrator(
        str(folder / "calibrated.tflite"), num_threads=1, qsv_update_func=qsv_utils.min_max_update
    )
    ranges.calibrate({SIGNATURE: clips}, recipes)
    if job["float"]:
        keep = [(job["float"], "*"), (".*", "INPUT"), (".*", "OUTPUT")]
        rules = rules + [
            {"regex": scope, "operation": operation, "algorithm_key": "no_quantize"}
            for scope, operation in keep
        ]
    one = quantizer.Quantizer(str(folder / "float.tflite"))
    one.load_quantization_recipe(rules)
    one.quantize(ranges.get_model_qsvs()).export_model(str(folder / "model.tflite"), overwrite=True)


def run(path: Path, inputs: np.ndarray) -> tuple[np.ndarray, dict]:
    """Return the outputs [clips, classes] as float32, and a report: tensors, operators, median time."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    given, got = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs, times = [], []
    for clip in inputs:
        interpreter.set_tensor(given["index"], quantized(clip[None], given))
        begun = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - begun)
        outputs.append(real(interpreter.get_tensor(got["index"])[0], got))
    operators = [one["op_name"] for one in interpreter._get_ops_details() if one["op_name"] != "DELEGATE"]
    report = {"tensors": {"input": form(given), "output": form(got)}, "operators": operators}
    return np.stack(outputs), {**report, "milliseconds": 1e3 * float(np.median(times))}


def quantized(values: np.ndarray, tensor: dict) -> np.ndarray:
    """Return float values in the type of a tensor."""
    scale, zero = tensor["quantization"]
    if tensor["dtype"] == np.float32:
        return values.astype(np.float32)
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(tensor["dtype"])


def real(values: np.ndarray, tensor: dict) -> np.ndarray:
    """Return the float values of a tensor."""
    scale, zero = tensor["quantization"]
    return values if tensor["dtype"] == np.float32 else (values.astype(np.float32) - zero) * np.float32(scale)


def form(tensor: dict) -> dict:
    """Return name, shape, type and quantization of a tensor."""
    scale, zero = tensor["quantization"]
    return {
        "name": tensor["name"],
        "shape": tensor["shape"].tolist(),
        "dtype": np.dtype(tensor["dtype"]).name,
        **({"scale": float(scale), "zero_point": int(zero)} if scale else {}),
    }


def arena(path: Path, clip: np.ndarray) -> dict:
    """Return the bytes of memory that TFLite Micro needs, and its output for a clip; or why it fails."""
    from tflite_micro.python.tflite_micro import runtime

    said = ""
    try:
        with tempfile.TemporaryFile() as file:
            before = os.dup(2)  # TFLite Micro prints the allocations to the file descriptor of stderr
            os.dup2(file.fileno(), 2)
            try:
                micro = runtime.Interpreter.from_file(str(path), arena_size=ARENA_LIMIT)
                micro.print_allocations()
            finally:
                os.dup2(before, 2)
                os.close(before)
                file.seek(0)
                said = file.read().decode(errors="replace")
        given, got = micro.get_input_details(0), micro.get_output_details(0)
        for tensor in (given, got):
            own = tensor["quantization_parameters"]
            tensor["quantization"] = (
                (own["scales"][0], own["zero_points"][0]) if len(own["scales"]) else (0, 0)
            )
        micro.set_input(quantized(clip[None], given), 0)
        micro.invoke()
        found = real(micro.get_output(0)[0], got)
    except RuntimeError as error:
        return {"failed": "; ".join([*said.strip().splitlines()[:2], str(error)])}
    total = next(line for line in said.splitlines() if "Arena allocation total" in line)
    return {"arena_bytes": int(total.split()[-2]), "probabilities": found.tolist()}


def npu(path: Path) -> dict:
    """Return latency, memory and operators of a quantized model on each of `NPUS`, as Vela estimates them."""
    found = {}
    for name, (system, memory) in NPUS.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-I", "-m", "ethosu.vela", "--accelerator-config", name]
            command += ["--config", "Arm/vela.ini", "--system-config", system, "--memory-mode", memory]
            command += ["--show-cpu-operations", "--output-dir", folder, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            if done.returncode:
                found[name] = {"failed": (done.stderr or done.stdout).strip()[-300:]}
                continue
            table = next(Path(folder).glob("*_summary_*.csv"))
            with table.open(newline="") as file:
                row = next(csv.DictReader(file))
        lines = done.stdout.splitlines()
        on = {
            kind: int(next(line for line in lines if line.startswith(f"{kind} operators")).split()[3])
            for kind in ("CPU", "NPU")
        }
        found[name] = {
            "system": system,
            "memory_mode": memory,
            "clock_hz": float(row["core_clock"]),
            "latency_ms": 1e3 * float(row["inference_time"]),
            "sram_bytes": round(1024 * float(row["sram_memory_used"])),
            "flash_or_dram_bytes": round(
                1024 * (float(row["off_chip_flash_memory_used"]) + float(row["dram_memory_used"]))
            ),
            "macs": int(row["nn_macs"]),
            "operators": {"npu": on["NPU"], "cpu": on["CPU"]},
            "cpu_operators": sorted(re.findall(r"\(supported operators\) operator: (\w+)", done.stdout)),
        }
    return found


def main(folder: Path) -> None:
    """Do the job of a folder."""
    job = json.loads((folder / "job.json").read_text())
    with np.load(folder / "inputs.npz") as arrays:
        inputs = arrays["inputs"]
    if "model" in job:
        outputs, report = run(Path(job["model"]), inputs)
        np.savez(folder / "outputs.npz", probabilities=outputs)
        (folder / "report.json").write_text(json.dumps(report))
        return
    convert(folder / "program.pt2", job["input"], folder / "float.tflite")
    if job["quantized"]:
        quantize(folder, job)
    else:
        (folder / "float.tflite").rename(folder / "model.tflite")
    outputs, report = run(folder / "model.tflite", inputs)
    np.savez(folder / "outputs.npz", probabilities=outputs)
    del report["milliseconds"]  # of a machine that has just compiled
    if job["input"] == "features":  # a microcontroller computes features in code of its own
        report["micro"] = arena(folder / "model.tflite", inputs[0])
    if job["quantized"] and job["input"] == "features":
        report["npu"] = npu(folder / "model.tflite")
    packages = (
        "litert-torch",
        "ai-edge-litert",
        "ai-edge-quantizer",
        "tflite-micro",
        "ethos-u-vela",
        "torch",
    )
    report["versions"] = {name: version(name) for name in packages}
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
