"""What building a masker does to the process: no torch, no transformers, no network. Each check runs in a fresh interpreter."""

import subprocess
import sys


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_masking_loads_no_heavy_library_and_leaves_torch_importable():
    run(
        "import sys\n"
        "from bot.masking import Masker, MaskingSettings\n"
        "assert not {'spacy', 'presidio_analyzer'} & set(sys.modules)\n"
        "masker = Masker(MaskingSettings())\n"
        "masker.mask('Hi Sarah, call +44 20 7946 0958 or ann@example.com')\n"
        "assert not {'torch', 'transformers', 'tensorflow', 'sklearn'} & set(sys.modules), 'loaded'\n"
        "import importlib.util\n"
        "if importlib.util.find_spec('torch'):\n"
        "    import torch\n"
        "    assert torch.zeros(2).sum() == 0\n"
    )


def test_masking_opens_no_socket():
    run(
        "import socket\n"
        "def refuse(*a, **k):\n"
        "    raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from bot.masking import Masker, MaskingSettings\n"
        "masked = Masker(MaskingSettings()).mask('mail ann@example.com or bob@intra.corp, see www.example.co.uk')\n"
        "assert masked.text.count('<EMAIL_ADDRESS_') == 2\n"
    )


def test_presidios_own_email_check_stays_offline_too():
    run(
        "import socket\n"
        "def refuse(*a, **k):\n"
        "    raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from bot.masking.imports import keep_tldextract_offline\n"
        "keep_tldextract_offline()\n"
        "import tldextract\n"
        "assert tldextract.extract('www.example.co.uk').suffix == 'co.uk'\n"
    )


def test_block_of_heavy_imports_spares_what_is_loaded_and_is_lifted():
    import types

    from bot.masking.imports import blocked_heavy_imports

    standin = types.ModuleType("mxnet")
    sys.modules["mxnet"] = standin
    had_cupy = "cupy" in sys.modules
    try:
        with blocked_heavy_imports():
            assert sys.modules["mxnet"] is standin
            assert had_cupy or sys.modules["cupy"] is None
        assert had_cupy or "cupy" not in sys.modules
    finally:
        del sys.modules["mxnet"]
