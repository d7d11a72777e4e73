"""Maps the folders `cli/` and `weights/` to importable packages; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["xface", "xface.*"]), "xface_cli", "xface_weights"],
    package_dir={"xface": "xface", "xface_cli": "cli", "xface_weights": "weights"},
    package_data={
        "xface": [
            "py.typed",
            "networks/*.json",
            "report/html/template/*",
            "report/run/template/*",
            "report/trust/template/*",
            "report/run/sections/*",
            "runs/*.json",
        ],
        "xface_weights": ["*.safetensors", "*.json"],
    },
)
