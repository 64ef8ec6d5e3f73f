"""What ``featpipe explore`` does: serve the page until Ctrl-C."""

from __future__ import annotations

import tempfile
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path

from featpipe.cli import console
from featpipe.cli.console import say
from featpipe.errors import FeatpipeError, Problem


def explore_images(pipeline: Path | None, image: Path | None, port: int, *, browser: bool) -> None:
    """Serve the page.

    Parameters
    ----------
    pipeline : Path, optional
        What to begin with.
    image : Path, optional
        The image to look at; unless given the pipeline's first, or a drawn one.
    port : int
        0 for any that is free.
    browser : bool
        Whether to open the page.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "starlette"):
            raise
        what = f"needs {error.name}, which is not installed."
        raise FeatpipeError(Problem("explore", what, "pip install 'featpipe[explore]'")) from None
    from featpipe.run import load_kernels

    load_kernels(lambda text: say(f"featpipe: {text}"))
    from featpipe.explore.beginning import begin
    from featpipe.explore.server import listen, make_app, make_server, make_token
    from featpipe.explore.session import Session

    with tempfile.TemporaryDirectory(prefix="featpipe-explore-") as name:
        folder = Path(name)
        start = begin(pipeline, image, folder)
        session = Session(start.subject, start.base, start.shelf)
        with listen(port) as bound:
            port, token = bound.getsockname()[1], make_token()
            app = make_app(session, {"text": start.text, "note": start.note}, folder, port, token)
            url = f"http://127.0.0.1:{port}/{token}/"
            console.tell(url)
            say("Only this machine can open it. Ctrl-C ends it.")
            threading.Thread(target=session.warm_up, daemon=True).start()
            if browser:
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
            with suppress(KeyboardInterrupt):
                make_server(app).run(sockets=[bound])
            say("ended")
