"""How OpenMP's threads, on which torch shares out one operation, wait for the next.

They turn in circles for a while before they sleep: by default for some 10 ms, on a core that a thread of
`wzfl.threads` wants. OpenMP reads the setting once, when torch is imported: import wzfl before it.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # a third of a millisecond
