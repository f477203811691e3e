"""AsyncSwitch: three-stage adaptation of Whisper to code-switched speech, as an ESPnet plugin."""

import importlib
from typing import Any

__version__ = "0.1.0"

NAME = "asyncswitch_whisper"
PUBLIC_MODULES = ("freeze", "groups", "merge", "score", "stages", "text")


def register() -> None:
    """Add the plugin's classes to ESPnet's own registries; calling it again changes nothing.

    Encoder, decoder and model are registered as `asyncswitch_whisper` (`--model`, `--encoder`,
    `--decoder`), the freeze schedule as `freeze` and a linear schedule as `warmuplinear`
    (`--scheduler`), Adam with a state of 8 bits as `adamw8bit` (`--optim`).
    """
    from espnet2.tasks import abs_task, asr

    from espnet_plugin.freeze import FreezeSchedule, WarmupLinear
    from espnet_plugin.model import AsyncSwitchModel
    from espnet_plugin.optim8bit import adamw8bit
    from espnet_plugin.views import WhisperDecoderView, WhisperEncoderView

    asr.model_choices.classes[NAME] = AsyncSwitchModel
    asr.encoder_choices.classes[NAME] = WhisperEncoderView
    asr.decoder_choices.classes[NAME] = WhisperDecoderView
    abs_task.optim_classes["adamw8bit"] = adamw8bit
    abs_task.scheduler_classes["freeze"] = FreezeSchedule
    abs_task.scheduler_classes["warmuplinear"] = WarmupLinear


def __getattr__(name: str) -> Any:
    """Import public modules, and `Speech2Text`, when they are asked for.

    ESPnet's inference takes seconds to import, torch nearly so; `import espnet_plugin` is quick.
    """
    if name == "Speech2Text":
        from espnet_plugin.decode.speech2text import Speech2Text

        return Speech2Text
    if name in PUBLIC_MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
