"""What people think of a model's answers: a local page to compare or rate them, and tables that `reward`, `ppo`, `dpo` and `kto` read.

tasks.py      answers of a model -> tasks: two answers to compare, or one to rate
store.py      tasks and judgements in SQLite or PostgreSQL; a judgement is on disk before the page hears that it is
render.py     what a model printed -> HTML that does nothing: Markdown, code with colours, formulas as MathML
server.py     the page and its few calls, for people with the token
agreement.py  how far raters agree: Krippendorff's alpha
export.py     judgements -> preferences, judged and rated answers as Parquet
page/         the page itself
"""
