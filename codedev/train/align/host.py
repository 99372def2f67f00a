"""A process that holds a user's reward function: `python host.py FILE NAME`; a line of JSON in, a line of JSON out.

By itself, so that a function that hangs can be ended, one that prints disturbs nothing, and one that eats memory takes no model with it.
What it prints goes to stderr, and it finds nothing to read. Knows nothing of codedev.
"""

import ctypes
import json
import os
import runpy
import signal
import sys
import traceback


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: a function that hangs ends with the run
    requests, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    file, name = sys.argv[1:3]

    def reply(**fields: object) -> None:
        try:
            replies.write(json.dumps(fields) + "\n")
            replies.flush()
        except OSError:  # nobody listens any more, or the function closed what is not its own
            os._exit(1)

    sys.path.insert(0, os.path.dirname(os.path.abspath(file)))
    try:
        found = runpy.run_path(file, run_name="codedev_reward")
        if not callable(found.get(name)):
            known = ", ".join(sorted(key for key, value in found.items() if callable(value) and not key.startswith("_"))) or "none"
            raise NameError(f"there is no function '{name}' in it; its functions: {known}")
    except BaseException as error:
        reply(error=_said(error), where="loading")
        return
    reply(ready=True)
    for line in requests:
        asked = json.loads(line)
        try:
            reply(scores=_numbers(found[name](asked["prompts"], asked["answers"], asked["references"]), len(asked["answers"])))
        except BaseException as error:
            reply(error=_said(error), where="calling")


def _numbers(given: object, answers: int) -> list[float]:
    try:
        scores = iter(given)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(f"it gave {type(given).__name__} in the place of {answers} numbers, one for each answer") from None
    found = []
    for at, score in enumerate(scores):
        if at > answers:  # of one that never ends
            break
        try:
            found.append(float(score))
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"it gave {repr(score)[:60]} for answer {at}, which is no number ({error})") from None
    return found


def _said(error: BaseException) -> str:
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__ and "<frozen" not in frame.filename
    ]
    place = f" (line {frames[-1].lineno} of {os.path.basename(frames[-1].filename)})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"[:2000]


main()
