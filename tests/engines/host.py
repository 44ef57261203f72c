"""A process for one backend's engines: opens them, calls them from a thread that is not its main
one, and answers through a pipe. Started by conftest.py with the number of a connection."""

from __future__ import annotations

import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from db.errors import EngineFault, TaskFault
from tests.engines import inside
from workers.engines.registry import open_engine


def serve(pipe: Connection) -> None:
    engine = None
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            if name == "open":
                spec, folder, limits = arguments
                engine = open_engine(spec, folder=Path(folder), limits=limits)
                answer = None
            elif name == "vocabulary":
                answer = engine.vocabulary
            elif name == "thread":
                answer = threading.current_thread() is not threading.main_thread()
            elif name == "inside":
                function, more = arguments
                answer = getattr(inside, function)(engine, *more)
            else:
                answer = getattr(engine, name)(*arguments)
            pipe.send(("ok", answer))
        except (EngineFault, TaskFault) as fault:
            pipe.send((type(fault).__name__, (fault.kind, str(fault), fault.permanent)))
        except BaseException as error:
            pipe.send(("error", repr(error)))
            raise


if __name__ == "__main__":
    thread = threading.Thread(target=serve, args=(Connection(int(sys.argv[1])),))
    thread.start()
    thread.join()
