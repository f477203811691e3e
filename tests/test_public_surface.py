"""What the README promises under `import espnet_plugin`, in a fresh interpreter."""

import subprocess
import sys

SCRIPT = """
import sys
import espnet_plugin
assert "torch" not in sys.modules, "import espnet_plugin must be quick"
assert espnet_plugin.groups.group_of("model.decoder.embed_tokens.weight") == "output"
assert espnet_plugin.stages.STAGES["adapt_align"].trains == ("cross_attn",)
assert espnet_plugin.text.normalize("Kanak2 tu", "cs").words == ["kanak", "kanak", "tu"]
assert espnet_plugin.score.cmi(["ms", "en"]) == 50.0
assert espnet_plugin.score.align(["a", "b"], ["a", "c"]).errors == 1
assert callable(espnet_plugin.merge.merge) and callable(espnet_plugin.register)
try:
    espnet_plugin.nothing
except AttributeError as error:
    assert "has no attribute 'nothing'" in str(error)
else:
    raise AssertionError("an unknown attribute must be an error")
"""


def test_modules_are_there_without_importing_them() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
