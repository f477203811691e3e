"""What processes that decode say of their progress, on the screen of the first."""

import io
import queue

from espnet_plugin.cli import progress
from espnet_plugin.decode.workers import _Sent, _tell


def test_a_log_gets_a_line_every_few_seconds_not_one_for_each_batch(capsys):
    stream, messages = io.StringIO(), queue.Queue()
    sent = _Sent(messages)
    with progress(100, "decoding", "utt", stream) as bar:
        for number in range(50):
            sent.set_postfix_str(f"init set_{number}", refresh=False)
            sent.update(1)
        _tell(messages, bar)
        assert bar.n == 50 and "set_49" in bar.postfix
        assert len(stream.getvalue().splitlines()) == 1, "the first, of nothing done"
        sent.write("exp/init: done")
        _tell(messages, bar)
        assert capsys.readouterr().out == "exp/init: done\n"
