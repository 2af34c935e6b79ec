"""moto's server, which ends when its standard input does: whoever started it is gone then."""

import os
import sys
import threading

from moto.server import main


def end_with_input() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


threading.Thread(target=end_with_input, daemon=True).start()
main(sys.argv[1:])
