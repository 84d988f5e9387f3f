"""An engine folder made ready: the right files, networks on a runtime, a way for its volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import structlog

from dicom_node.errors import DeviceFull
from dicom_node.finding import FindingKind
from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.loading import close, load_on, require_files
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.networks import LoadedNetworks, load_networks
from dicom_node.infer.path import CpuPath
from dicom_node.infer.runtimes.choice import Wishes
from dicom_node.infer.runtimes.port import RuntimeKind
from dicom_node.infer.runtimes.registry import DEFAULT, NULL, ON_GPU, RUNTIMES

if TYPE_CHECKING:
    from dicom_node.infer.gpu.wiring import PlacedRuntime, Sites

log = structlog.get_logger()

_ON_THE_DEFAULT = Wishes(runtime=DEFAULT)


def load_engine(
    folder: Path,
    *,
    threads: int,
    wishes: Wishes = _ON_THE_DEFAULT,
    runtimes: Mapping[str, RuntimeKind] = RUNTIMES,
    sites: Callable[[Path | None], Sites] | None = None,
) -> Engine:
    """Return the engine of a folder, its networks loaded and compared with its test vector.

    Parameters
    ----------
    folder : Path
        With `engine.yaml` and the files that it names.
    threads : int
        Threads that a network may use.
    wishes : Wishes, optional
        Which runtime its networks shall run on; by default onnxruntime.
    runtimes : mapping, optional
        By name.
    sites : callable, optional
        Returns what engines share on a GPU, by the folder where compiled kernels are kept.

    Raises
    ------
    ConfigError
        If the manifest has mistakes, or a runtime is named that is not there.
    EngineUnavailable
        If memory, the device or the server is lacking now.
    EngineError
        If a model file is not the one that the manifest means, cannot be loaded, or does not give
        the answers of the test vector.
    """
    manifest = load_manifest(folder)
    require_files(manifest)
    loaded = load_networks(manifest, wishes, threads=threads, runtimes=runtimes)
    if loaded.choice.runtime in ON_GPU:
        return _on_gpu(manifest, loaded, wishes, threads, sites or _sites)
    engine = Engine(manifest, loaded.networks, threads=threads, parities=loaded.parities)
    if loaded.choice.runtime != NULL:
        # Another processor or runtime must not give other answers unnoticed; it takes a second at
        # most. `null` runs no network, and its findings say so.
        engine.verify()
    return engine


def _on_gpu(
    manifest: Manifest,
    loaded: LoadedNetworks,
    wishes: Wishes,
    threads: int,
    sites: Callable[[Path | None], Sites],
) -> Engine:
    """Return an engine whose volumes stay on the GPU from voxels to classes.

    What gives no mask has little to gain: its tensors go up and its few numbers come down. What
    gives probabilities beside it needs all that the network says: that comes down, too.
    """
    networks, _, parities = loaded
    if manifest.kind is not FindingKind.SEGMENTATION or manifest.probabilities:
        return Engine(manifest, networks, threads=threads, parities=parities)
    # Not before it is needed: it wants pycuda.
    from dicom_node.infer.gpu.wiring import gpu_first

    on_processor = load_on(RUNTIMES[DEFAULT], manifest, wishes, threads)
    main = [_placed(runtime) for runtime in networks.main]
    try:
        path = gpu_first(
            manifest,
            main,
            _placed(networks.locate) if networks.locate else None,
            CpuPath(manifest, on_processor),
            sites(wishes.cache_dir).of(main[0].device),
        )
    except DeviceFull as full:
        log.warning("engine_on_the_processor", engine=manifest.name, reason=full.message)
        close(networks)
        return Engine(manifest, on_processor, threads=threads, parities=parities)
    return Engine(manifest, networks, threads=threads, path=path, parities=parities)


def _placed(runtime: object) -> PlacedRuntime:
    """Return a runtime of a GPU as one whose network lies there: all of `ON_GPU` are."""
    return cast("PlacedRuntime", runtime)


@cache
def _sites(cache_dir: Path | None) -> Sites:
    from dicom_node.infer.gpu.wiring import Sites

    return Sites(cache_dir)
