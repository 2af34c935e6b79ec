"""ministack's Route 53 on a free port, which ends when its standard input does: whoever started it is gone then."""

import asyncio
import os
import sys
import threading

# Read when it is imported.
os.environ["SERVICES"] = "route53"
os.environ["IOT_MTLS_ENABLED"] = "0"
os.environ["LOG_LEVEL"] = "WARNING"

from hypercorn.asyncio import serve  # noqa: E402
from hypercorn.config import Config  # noqa: E402
from ministack.app import app  # noqa: E402


def end_with_input() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


threading.Thread(target=end_with_input, daemon=True).start()
config = Config()
config.bind = ["127.0.0.1:0"]
asyncio.run(serve(app, config))
