"""ESPnet's parser of options and configuration files, with errors that help."""

from typing import Any

import yaml
from espnet2.utils import config_argparse

from espnet_plugin.cli import nearest


class Parser(config_argparse.ArgumentParser):
    """ESPnet's parser; an unknown option or configuration key names the nearest known one."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as ESPnet does; a configuration that is no YAML is an error of the user's."""
        try:
            return super().parse_known_args(args, namespace)
        except yaml.YAMLError as error:
            self.error(f"--config is no YAML: {error}")

    def error(self, message: str) -> Any:
        """Add a suggestion to argparse's message, and exit with 2."""
        for word in message.replace(":", " ").split():
            name = word.lstrip("-").split("=")[0].replace("-", "_")
            if "unrecognized" in message and name not in ("unrecognized", "arguments"):
                message += nearest(name, [a.dest for a in self._actions])
                break
        super().error(message)
