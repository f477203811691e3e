"""Speech data on disk: Kaldi directories read strictly, audio formatted, filtered and counted.

In the order of the data: `tables` and `datadir` read ``data/<set>``; `source`, `whole` and `audio`
read one recording; `journal` and `formatting` make ``dump/raw/<set>``; `filtering` drops what
cannot be trained on (`tokens`: too long a text); `faults` reports what both found; `statistics`
counts; `commands` has the options.
Nothing here imports torch or ESPnet.
"""

from espnet_plugin.data.datadir import DataDir, Segment
from espnet_plugin.data.tables import read_table, write_table

__all__ = ["DataDir", "Segment", "read_table", "write_table"]
