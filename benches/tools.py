"""llama.cpp's own programs, built on demand from the source that llama-cpp-python publishes, and Python packages of peers.

The programs are linked against the libraries of the installed llama-cpp-python, so that they compute with the very same kernels as
the engine. Knows how to fetch and build; not what the programs are used for.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benches.paths import LOG_DIR, PEERS_DIR, ROOT, BenchError, lock, run_logged

PACKAGE: Final = "llama-cpp-python"
TOOLS: Final = ("llama-server", "llama-bench", "llama-quantize")
PYTHON_PEERS: Final = {
    # without their dependencies: the project's environment holds these already, torch among them
    "llama_cpp.server": ("starlette-context<0.4", "sse-starlette"),
    "sentence-transformers": ("sentence-transformers>=5",),
    # both trainers, and what reads their data
    "training": ("sentence-transformers>=5", "trl>=1", "datasets", "pyarrow", "pandas", "xxhash", "multiprocess", "dill"),
}
_CMAKE_LIST: Final = Path(__file__).with_name("CMakeLists.txt")
_SUFFIX: Final = ".dylib" if sys.platform == "darwin" else ".so"


def ensure_tools(names: Sequence[str]) -> dict[str, Path]:
    """Return the paths of llama.cpp's programs (any of `TOOLS`), building those that are missing: two minutes on two cores, once.

    Safe when several processes ask at the same time. Raises BenchError, which says what to install.
    """
    unknown = [name for name in names if name not in TOOLS]
    if unknown:
        message = f"there is no tool '{unknown[0]}'; choose among {', '.join(TOOLS)}"
        raise BenchError(message)
    libs = find_libraries()
    wanted = _fingerprint(libs)
    found = {name: _get_build_dir() / "bin" / name for name in names}
    if all(_is_current(path, wanted) for path in found.values()):
        return found
    with lock("tools"):
        missing = [name for name, path in found.items() if not _is_current(path, wanted)]
        if missing:
            _build(missing, libs)
            for name in missing:
                _get_stamp(found[name]).write_text(wanted)
    return found


def get_tool_env() -> dict[str, str]:
    """Return the environment in which the programs find the libraries and leave the processor alone while they wait."""
    name = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
    before = os.environ.get(name)
    libs = str(find_libraries())
    return {name: f"{libs}:{before}" if before else libs}


def find_libraries() -> Path:
    """Return the folder with the installed llama.cpp libraries. Raises BenchError where the installation is not a compiled one."""
    folder = Path(sysconfig.get_path("platlib")) / "lib"
    for name in ("ggml-base", "ggml-cpu", "ggml", "llama", "llama-common"):
        if not (folder / f"lib{name}{_SUFFIX}").exists():
            message = (
                f"{folder}/lib{name}{_SUFFIX} is missing: the peers are linked against the libraries of a compiled {PACKAGE}; "
                f"reinstall it from source (pip install --force-reinstall --no-deps --no-binary {PACKAGE} {PACKAGE}=={version(PACKAGE)})"
            )
            raise BenchError(message)
    return folder


def ensure_source() -> Path:
    """Return the folder of llama.cpp's source (programs, vocabularies), fetched from the package index where it is missing."""
    release = version(PACKAGE)
    folder = PEERS_DIR / f"llama_cpp_python-{release}"
    source = folder / "vendor" / "llama.cpp"
    if (folder / ".complete").exists():
        return source
    with lock("source"):
        if not (folder / ".complete").exists():
            archive = _download(release)
            shutil.rmtree(folder, ignore_errors=True)
            with tarfile.open(archive) as tar:
                if hasattr(tarfile, "data_filter"):
                    tar.extractall(PEERS_DIR, filter="data")
                else:  # Python 3.11.0 to 3.11.3; the archive is what pip would unpack as well
                    tar.extractall(PEERS_DIR)  # noqa: S202
            archive.unlink()
            (folder / ".complete").touch()
    return source


def ensure_python_peer(name: str) -> Path:
    """Return the folder to put on PYTHONPATH for a peer written in Python (a key of `PYTHON_PEERS`). Raises BenchError.

    It holds the peer alone; what it needs besides comes from the project's environment, so that torch is the same for all.
    """
    folder = PEERS_DIR / f"python-{name}" / "site-packages"  # under any other name dill takes its pyarrow for the user's own code
    stamp, wanted = folder / ".complete", f"{sys.version_info[:2]} {PYTHON_PEERS[name]}"
    with lock(f"python-{name}"):
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
            command += PYTHON_PEERS[name]
            run_logged(command, log=LOG_DIR / "pip.log", advice=f"the peer '{name}' needs the package index once")
            stamp.write_text(wanted)
    return folder


def _download(release: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
    command += [f"{PACKAGE}=={release}", "-d", str(PEERS_DIR)]
    run_logged(
        command,
        log=LOG_DIR / "pip.log",
        advice="the peers are built from this package's source; the package index is needed once",
    )
    archives = sorted(PEERS_DIR.glob(f"llama_cpp_python-{release}.tar.gz"))
    if not archives:
        message = f"pip downloaded no source archive of {PACKAGE} {release} to {PEERS_DIR}"
        raise BenchError(message)
    return archives[0]


def _get_build_dir() -> Path:
    return PEERS_DIR / f"build-{version(PACKAGE)}"


def _get_stamp(tool: Path) -> Path:
    return tool.with_name(f"{tool.name}.stamp")


def _is_current(tool: Path, wanted: str) -> bool:
    stamp = _get_stamp(tool)
    return tool.exists() and stamp.exists() and stamp.read_text() == wanted


def _fingerprint(libs: Path) -> str:
    """Return what a build depends on: the release, our build list, and which compiled libraries it is linked against."""
    state = (libs / f"libllama{_SUFFIX}").stat()
    text = f"{version(PACKAGE)} {libs} {state.st_size} {state.st_mtime_ns} {_CMAKE_LIST.read_text()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _build(names: Sequence[str], libs: Path) -> None:
    source = ensure_source()
    cmake, ninja, env = _ensure_build_programs()
    build_dir, log = _get_build_dir(), LOG_DIR / "build.log"
    print(f"building {', '.join(names)} in {build_dir.relative_to(ROOT)}: some minutes, once", file=sys.stderr)  # noqa: T201
    advice = "a C++ compiler and OpenSSL's headers are needed (Debian, Ubuntu: apt-get install g++ libssl-dev)"
    configure = [cmake, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-DCMAKE_BUILD_TYPE=Release", f"-DLLAMA_DIR={source}"]
    configure += [f"-DLIBS_DIR={libs}", "-S", str(_CMAKE_LIST.parent), "-B", str(build_dir)]
    run_logged(configure, log=log, env=env, advice=advice)
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 2)
    run_logged([cmake, "--build", str(build_dir), "-j", jobs, "--target", *names], log=log, env=env, advice=advice)


def _ensure_build_programs() -> tuple[str, str, dict[str, str]]:
    """Return cmake, ninja and the environment they need; taken from the package index where the machine has none."""
    cmake, ninja = shutil.which("cmake"), shutil.which("ninja")
    if cmake and ninja and _is_new_enough(cmake):
        return cmake, ninja, {}
    folder = PEERS_DIR / "python-cmake"
    if not (folder / "bin" / "ninja").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "cmake>=3.21,<5", "ninja"]
        run_logged(command, log=LOG_DIR / "pip.log", advice="install cmake and ninja, or allow the package index once")
    return str(folder / "bin" / "cmake"), str(folder / "bin" / "ninja"), {"PYTHONPATH": str(folder)}


def _is_new_enough(cmake: str) -> bool:
    text = subprocess.run([cmake, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    words = text.split()
    numbers = words[2].split(".") if len(words) > 2 else ["0", "0"]
    return (int(numbers[0]), int(numbers[1])) >= (3, 21)
