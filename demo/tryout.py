"""The order of things in a try-out, and its end."""

import asyncio
import contextlib
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from demo import make, ports
from demo.api import PREFERRED_PORT, open_daemon
from demo.broker import open_broker
from demo.child import Child
from demo.errors import TryoutError
from demo.leaving import take_away
from demo.live import Ears, open_service, within
from demo.place import Place, configure, furnish, held, shown
from demo.show import SECRET, fill, show, try_next
from demo.telling import Teller

FOLDER = ".run"
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def tryout(teller: Teller, place: Place) -> None:
    """Start everything, show it, and keep it running until cancelled; raises TryoutError."""
    async with AsyncExitStack() as stack:
        furnish(place)
        broker = await open_broker(stack, place)
        guest = broker.kind == "yours"
        if guest:
            stack.push_async_callback(take_away, teller, place, broker.settings)
        url = configure(place, port=ports.choose(PREFERRED_PORT), bus=broker.settings, discovery=not guest)
        daemon, api = await open_daemon(stack, place, url)
        whose = {"yours": "your broker", "mosquitto": "a Mosquitto", "amqtt": "amqtt (no Mosquitto here)"}[broker.kind]
        teller.line(f"secretsd at {url}, {whose} at {broker.settings.url}, state in {shown(place.root)}", "bold")

        await fill(api)
        ears = Ears(broker.settings, place.public_key)
        service = await open_service(stack, place, url, broker.settings, SECRET)
        fetched = service.seen.expect(lambda report: report.what == "fetched")
        children: list[Child] = [child for child in (broker.child, daemon, service.child) if child is not None]
        try:
            async with asyncio.TaskGroup() as tasks:
                for child in children:
                    tasks.create_task(child.outlive())
                tasks.create_task(service.run())
                tasks.create_task(ears.run())
                await within(asyncio.ensure_future(ears.listening.wait()), "the broker's answer to a subscription")
                await show(teller, api, service, ears, await within(fetched, "the live service's first secret"))
                try_next(teller, place, broker)
                teller.line(f"Ready: {url}", "bold green")
                ears.heard.feed = teller.heard
                service.seen.feed = lambda report: teller.changed(report, SECRET) if report.what == "changed" else None
                await asyncio.Event().wait()
        except ExceptionGroup as group:
            # What stands first is the cause: the others' ends follow from it.
            raise next((e for e in group.exceptions if isinstance(e, TryoutError)), group) from None


async def until_told(teller: Teller, place: Place) -> None:
    """Run the try-out until one of `ENDS` or the make that started it says to end; then end it in order."""
    task = asyncio.create_task(tryout(teller, place))
    # Who has SIGHUP ignored (`nohup`) wants it to outlive the terminal.
    deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    ends = [number for number in ENDS if not (deaf and number is signal.SIGHUP)]

    def stop() -> None:
        # Once: a second Ctrl-C, or make's, which Ctrl-C reaches too, must not cut short the orderly end.
        for number in ends:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        if not task.cancelling() and task.cancel():
            with contextlib.suppress(OSError):  # a terminal that was closed
                teller.line("Ending …", "dim")

    loop = asyncio.get_running_loop()
    for number in ends:
        loop.add_signal_handler(number, stop)
    status = make.our_make()
    watch = asyncio.create_task(make.follow(status, stop)) if status else None
    try:
        await task
    except asyncio.CancelledError:
        pass
    finally:
        if watch:
            watch.cancel()


def main() -> int:
    """`make run`: 0 after Ctrl-C, SIGTERM or SIGHUP, 1 when something stood in the way."""
    teller = Teller()
    try:
        with held(Path(os.environ.get("RUN_DIR") or FOLDER)) as place:
            asyncio.run(until_told(teller, place))
    except TryoutError as error:
        teller.error(str(error))
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        teller.error(
            f"{error.filename} can't be used: {error.strerror}; name another folder: make run RUN_DIR=/tmp/tryout"
        )
        return 1
    return 0
