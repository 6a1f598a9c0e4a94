"""A kernel has the variants whose files are in its folder; one that it lacks is refused."""

import importlib
import sys

import pytest

from kernels import heat
from rankwise.node import device, variants
from rankwise.ranks.agreement import Stop

HERE = {
    ("numpy",): "numpy",
    ("numpy", "numba"): "numba",
}
every_kernel = pytest.mark.parametrize("names", HERE)


@pytest.fixture
def kernel_with(tmp_path, monkeypatch):
    """Return a function that makes a kernel with some variants, and returns its package."""

    def make(names):
        folder = tmp_path / "scarce"
        folder.mkdir()
        for name in ("__init__", *(f"{variant}_" for variant in names)):
            (folder / f"{name}.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.partition(".")[0] == "scarce"]:
            monkeypatch.delitem(sys.modules, name)
        return importlib.import_module("scarce")

    return make


@every_kernel
def test_the_variants_of_a_kernel_are_its_files(kernel_with, names):
    kernel = kernel_with(names)
    assert variants.of(kernel) == names
    for variant in names:
        assert variants.load(kernel, variant).__name__ == f"scarce.{variant}_"


def test_a_kernel_of_ours_has_all_variants():
    assert variants.of(heat) == variants.VARIANTS


def test_only_the_chosen_variant_is_imported(kernel_with):
    kernel = kernel_with(("numpy", "numba", "cupy"))
    variants.load(kernel, "numba")
    loaded = {name for name in sys.modules if name.startswith("scarce.")}
    assert loaded == {"scarce.numba_"}


def test_a_variant_that_is_not_there_is_not_loaded(kernel_with):
    with pytest.raises(ImportError, match=r"scarce\.cuda_"):
        variants.load(kernel_with(("numpy",)), "cuda")


def test_a_missing_library_is_passed_on(monkeypatch):
    monkeypatch.delitem(sys.modules, "kernels.heat.cupy_", raising=False)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match="cupy"):
        variants.load(heat, "cupy")


@pytest.mark.mpi
@every_kernel
@pytest.mark.parametrize("gpus", [[], ["A GPU"]], ids=["no GPU", "GPU"])
def test_auto_chooses_among_what_the_kernel_has(comm, monkeypatch, kernel_with, names, gpus):
    monkeypatch.setattr(device, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(device, "_installed", lambda variant: True)
    chosen = device.choose(comm, "auto", variants=variants.of(kernel_with(names)))
    assert chosen.variant == HERE[names]
    assert not chosen.is_gpu


@pytest.mark.mpi
def test_auto_takes_the_gpu_for_which_the_kernel_has_a_variant(comm, monkeypatch, kernel_with):
    monkeypatch.setattr(device, "visible_gpus", lambda: ["A GPU"])
    monkeypatch.setattr(device, "_installed", lambda variant: True)
    monkeypatch.setattr(device, "_select_gpu", lambda variant, number: None)
    there = variants.of(kernel_with(("numpy", "cupy")))
    assert device.choose(comm, "auto", variants=there).variant == "cupy"


@pytest.mark.mpi
@pytest.mark.parametrize("variant", ["cuda", "cupy"])
@every_kernel
def test_a_variant_that_the_kernel_lacks_is_refused(comm, kernel_with, names, variant):
    there = " or ".join(names)
    sentence = f"^--variant {variant}: the kernel has none, take --variant {there}$"
    with pytest.raises(Stop, match=sentence) as refusal:
        device.choose(comm, variant, variants=variants.of(kernel_with(names)))
    assert refusal.value.status == 2
