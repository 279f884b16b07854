"""The long kill loop: `python -m tests.faults.kill.loop --kills 1000 --state killed.json`; run it again to go on."""

from __future__ import annotations

import argparse
import shutil
import sys
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.kill.round import Outcome, drawn, play
from tests.faults.kill.stage import stage
from tests.faults.kill.tally import Tally


def say(*words: str) -> None:
    """Print a line at once."""
    sys.stdout.write("  ".join(words) + "\n")
    sys.stdout.flush()


def play_number(number: int, seed: int, scratch: Path, kept: Path) -> Outcome:
    """Play round `number`; if something is amiss its folder is moved to `kept`."""
    stages = scratch / "stages"
    case, workers, blows = drawn(number, seed, stages)
    home = scratch / f"round-{number}"
    outcome = play(Outcome(number, case, workers), stage(case, stages), home, blows)
    if outcome.amiss:
        shutil.move(home, kept / home.name)
    else:
        shutil.rmtree(home)
    return outcome


def main() -> None:
    """Play rounds until the tally reaches the number of kills; exit code 1 if any round found something amiss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="kills that the tally is to reach")
    parser.add_argument("--state", type=Path, required=True, help="file of the tally; failed rounds are kept beside it")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other rounds")
    parser.add_argument("--jobs", type=int, default=1, help="rounds at a time")
    parser.add_argument("--only", type=int, metavar="ROUND", help="play this round alone, and count it nowhere")
    chosen = parser.parse_args()
    kept = chosen.state.with_suffix(".failures")
    kept.mkdir(parents=True, exist_ok=True)
    tally = Tally() if chosen.only is not None else Tally.load(chosen.state)
    with TemporaryDirectory(prefix="killed-") as folder:
        scratch = Path(folder)
        if chosen.only is not None:
            tally.add(play_number(chosen.only, chosen.seed, scratch, kept), chosen.seed)
        else:
            _play_all(tally, chosen, scratch, kept)
    say(tally.table())
    sys.exit(not tally.sound)


def _play_all(tally: Tally, chosen: argparse.Namespace, scratch: Path, kept: Path) -> None:
    with ThreadPoolExecutor(chosen.jobs) as pool:  # the work is done by the programs that are run
        running: set[Future[Outcome]] = set()
        while tally.kills < chosen.kills:
            while len(running) < chosen.jobs:
                running.add(pool.submit(play_number, tally.next_round, chosen.seed, scratch, kept))
                tally.next_round += 1
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for each in finished:
                outcome = each.result()
                tally.add(outcome, chosen.seed)
                tally.save(chosen.state)
                where = f"{outcome.case.operation} {outcome.case.recipe}, {outcome.workers} workers"
                say(
                    f"round {outcome.number}: {len(outcome.kills)} kills of {where}; {tally.kills:,} so far",
                    *outcome.amiss,
                )


if __name__ == "__main__":
    main()
