"""A process that holds a user's reward function: `python host.py FILE NAME`; a line of JSON in, a line of JSON out.

By itself, so that a function that hangs can be ended, one that prints disturbs nothing, and one that eats memory takes no model with it.
Knows nothing of codedev.
"""

import json
import os
import runpy
import sys
import traceback


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the function prints goes to stderr
    file, name = sys.argv[1:3]

    def reply(**fields: object) -> None:
        replies.write(json.dumps(fields) + "\n")
        replies.flush()

    sys.path.insert(0, os.path.dirname(os.path.abspath(file)))
    try:
        function = runpy.run_path(file, run_name="codedev_reward")[name]
    except BaseException as error:
        reply(error=_said(error), where="loading")
        return
    reply(ready=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            scores = [float(score) for score in function(asked["prompts"], asked["answers"], asked["references"])]
        except BaseException as error:
            reply(error=_said(error), where="calling")
        else:
            reply(scores=scores)


def _said(error: BaseException) -> str:
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__ and "<frozen" not in frame.filename
    ]
    place = f" (line {frames[-1].lineno} of {os.path.basename(frames[-1].filename)})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"[:2000]


main()
