"""AsyncSwitch: three-stage adaptation of Whisper to code-switched speech, as an ESPnet plugin."""

__version__ = "0.1.0"
