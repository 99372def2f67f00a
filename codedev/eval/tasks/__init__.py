"""The kinds of tasks. Each is a module with

    VERSION                  raise it when the same answers would give another record
    questions(task)          -> Asked: the table of questions, and what is shown before them
    ask(task, asked, at, lm, progress) -> a table of records of the questions `at`: id, group, asked, gold, said, score, and its own
    measure(task, records, seed) -> {group or "": {metric: Estimate}}, "" being all of them; the first metric is the task's

No module keeps anything between calls, so that a task is asked piece by piece and goes on where it was interrupted.
"""

from types import ModuleType

from codedev.eval.tasks import answer, choice, code, harness, text

KINDS: dict[str, ModuleType] = {"text": text, "choice": choice, "answer": answer, "code": code, "lm_eval": harness}
